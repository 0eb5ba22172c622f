// The server under test: where it is, whom it trusts, and how to stop and start it. All by environment, so that the
// same tests run against standalone on loopback and against a cluster.
import { createHash, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { request } from "node:https";
import { isIP } from "node:net";
import { connect } from "node:tls";

function required(name, meaning) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: ${meaning}`);
  return value;
}

export const baseUrl = required("ERS_URL", "address of the server, for example https://127.0.0.1:8443").replace(/\/$/, "");
export const user = process.env.ERS_USER ?? "admin";
export const password = required("ERS_PASSWORD", "password of ERS_USER");
const authority = readFileSync(required("ERS_CA_FILE", "file with the server's CA in PEM"), "utf8");

/**
 * The name that the certificate is for, where it is reached by another address (a Service's IP); an address has no name.
 */
const serverName = process.env.ERS_SERVER_NAME ?? (isIP(new URL(baseUrl).hostname) ? undefined : new URL(baseUrl).hostname);
const identity = serverName === undefined ? {} : { servername: serverName };

/** A program that is called with `stop`, `start`, `pause` or `resume` and acts on the server and nothing else. */
const hook = process.env.ERS_SERVER_HOOK ?? null;
export const canControlServer = hook !== null;

export function controlServer(action) {
  const { status, stderr } = spawnSync(hook, [action], { encoding: "utf8", timeout: 120_000 });
  if (status !== 0) throw new Error(`${hook} ${action} failed: ${stderr}`);
}

/**
 * The public key that the server presents, after its certificate was verified with the CA file and the host name.
 * Chromium is then told to accept exactly this key: the browser's trust is as narrow as a real one's.
 */
export function verifiedKey() {
  const { hostname, port } = new URL(baseUrl);
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port || 443), ca: authority, ...identity }, () => {
      const certificate = new X509Certificate(socket.getPeerCertificate(true).raw);
      socket.end();
      resolve(createHash("sha256").update(certificate.publicKey.export({ type: "spki", format: "der" })).digest("base64"));
    });
    socket.on("error", reject);
  });
}

/** A request that is not the browser's: how the API answers a token, or nobody. */
export function call(path, { method = "GET", headers = {} } = {}) {
  return new Promise((resolve, reject) => {
    const outgoing = request(`${baseUrl}${path}`, { method, headers, ca: authority, ...identity, timeout: 30_000 }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk) => { text += chunk; });
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, text }));
    });
    outgoing.on("timeout", () => outgoing.destroy(new Error(`${path} took longer than 30 s`)));
    outgoing.on("error", reject);
    outgoing.end();
  });
}
