package oci

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ers.local/cluster/internal/image"
)

func serve(t *testing.T) (*httptest.Server, string) {
	t.Helper()
	registry, err := NewRegistry(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry)
	t.Cleanup(server.Close)
	return server, strings.TrimPrefix(server.URL, "http://")
}

func archive(t *testing.T) (string, image.Built) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.tar")
	built, err := image.Build(image.Spec{Binary: self, Name: "probe", Tag: "v1"}, path)
	if err != nil {
		t.Fatal(err)
	}
	return path, built
}

func fetch(t *testing.T, url string) ([]byte, http.Header) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v %s", url, response.Status, err, data)
	}
	return data, response.Header
}

func TestWhatIsPushedIsPulledUnchangedAndASecondPushSendsNothing(t *testing.T) {
	server, host := serve(t)
	path, built := archive(t)
	pushed, err := (&Pusher{}).Push(context.Background(), path, host+"/team")
	if err != nil || len(pushed) != 1 {
		t.Fatal(err)
	}
	if pushed[0].Reference != host+"/team/probe:v1" || pushed[0].Sent == 0 {
		t.Fatalf("%+v", pushed[0])
	}
	body, header := fetch(t, server.URL+"/v2/team/probe/manifests/v1")
	if header.Get("Docker-Content-Digest") != pushed[0].Digest || header.Get("Content-Type") != ManifestType {
		t.Fatalf("%v", header)
	}
	var manifest Manifest
	if err := json.Unmarshal(body, &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Config.Digest != built.Config {
		t.Errorf("config %s, want %s", manifest.Config.Digest, built.Config)
	}
	files, err := readArchive(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range manifest.Layers {
		packed, _ := fetch(t, server.URL+"/v2/team/probe/blobs/"+layer.Digest)
		r, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(digestOf(plain), "sha256:") + ".tar"
		if !bytes.Equal(files[name], plain) {
			t.Errorf("layer %s came back changed", layer.Digest)
		}
	}
	again, err := (&Pusher{}).Push(context.Background(), path, host+"/team")
	if err != nil || again[0].Sent != 0 || again[0].Digest != pushed[0].Digest {
		t.Fatalf("%+v %v", again, err)
	}
	tags, _ := fetch(t, server.URL+"/v2/team/probe/tags/list")
	if !strings.Contains(string(tags), `["v1"]`) {
		t.Errorf("%s", tags)
	}
}

func request(t *testing.T, method, url, body string) *http.Response {
	t.Helper()
	q, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response
}

func TestABlobArrivesInChunksAndAWrongDigestIsRefused(t *testing.T) {
	server, _ := serve(t)
	begin := request(t, "POST", server.URL+"/v2/a/blobs/uploads/", "")
	location := server.URL + begin.Header.Get("Location")
	if r := request(t, "PATCH", location, "hello "); r.StatusCode != http.StatusAccepted || r.Header.Get("Range") != "0-5" {
		t.Fatalf("%s %v", r.Status, r.Header)
	}
	digest := digestOf([]byte("hello world"))
	if r := request(t, "PUT", location+"?digest="+digest, "world"); r.StatusCode != http.StatusCreated {
		t.Fatal(r.Status)
	}
	if data, _ := fetch(t, server.URL+"/v2/a/blobs/"+digest); string(data) != "hello world" {
		t.Fatalf("%s", data)
	}
	begin = request(t, "POST", server.URL+"/v2/a/blobs/uploads/", "")
	if r := request(t, "PUT", server.URL+begin.Header.Get("Location")+"?digest="+digest, "other"); r.StatusCode != http.StatusBadRequest {
		t.Fatal(r.Status)
	}
}

func TestRequestsThatNameSomethingImpossibleAreRefused(t *testing.T) {
	server, _ := serve(t)
	for target, want := range map[string]int{
		"GET /v1/":                                 404,
		"GET /v2/A/manifests/v1":                   400,
		"GET /v2/a/manifests/v1":                   404,
		"GET /v2/a/blobs/sha256:12":                400,
		"GET /v2/a/blobs/" + digestOf(nil):         404,
		"GET /v2/a/../../etc/manifests/v1":         400,
		"PUT /v2/a/blobs/uploads/ffffffffffffffff": 404,
		"PUT /v2/a/blobs/uploads/..%2f..%2fx":      404,
		"PUT /v2/a/manifests/v1":                   400,
		"DELETE /v2/a/manifests/v1":                405,
		"GET /v2/a/tags/list":                      404,
	} {
		method, path, _ := strings.Cut(target, " ")
		q, err := http.NewRequest(method, server.URL, strings.NewReader("not json"))
		if err != nil {
			t.Fatal(err)
		}
		q.URL.Opaque = "//" + q.URL.Host + path
		response, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: %d, want %d", target, response.StatusCode, want)
		}
	}
}

func TestAManifestWhoseBlobsAreMissingIsRefused(t *testing.T) {
	server, _ := serve(t)
	body := `{"schemaVersion":2,"config":{"digest":"` + digestOf([]byte("x")) + `"},"layers":[]}`
	if r := request(t, "PUT", server.URL+"/v2/a/manifests/v1", body); r.StatusCode != http.StatusBadRequest {
		t.Fatal(r.Status)
	}
}

func TestARegistryThatWantsALoginGetsTheStoredOne(t *testing.T) {
	registry, err := NewRegistry(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if user, password, ok := q.BasicAuth(); !ok || user != "u" || password != "p" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		registry.ServeHTTP(w, q)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	path, _ := archive(t)
	config := t.TempDir()
	t.Setenv("DOCKER_CONFIG", config)
	if _, err := (&Pusher{}).Push(context.Background(), path, host); err == nil || !strings.Contains(err.Error(), "wants a login") {
		t.Fatalf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(config, "config.json"), []byte(`{"auths":{"`+host+`":{"username":"u","password":"p"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Pusher{}).Push(context.Background(), path, host); err != nil {
		t.Fatal(err)
	}
}
