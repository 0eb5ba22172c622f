// The log-in form: says what went wrong and, when there were too many tries, how long to wait.
import { Api } from "./api.js";
import { setText } from "./dom.js";
import { formatSpan, sentence } from "./format.js";
import { safeNext } from "./router.js";
import { wireThemeButton } from "./theme.js";

const REASONS = {
  expired: "Your session has ended. Log in to go on where you were.",
  logout: "You are logged out.",
};

const form = document.getElementById("form");
const username = document.getElementById("username");
const password = document.getElementById("password");
const error = document.getElementById("error");
const submit = document.getElementById("submit");
const parameters = new URLSearchParams(location.search);
const api = new Api();
let waiting = null;

function showError(message, field = null) {
  setText(error, message);
  error.hidden = false;
  for (const input of [username, password]) {
    const guilty = input === field;
    input.setAttribute("aria-invalid", String(guilty));
    if (guilty) input.setAttribute("aria-describedby", "error");
    else input.removeAttribute("aria-describedby");
  }
  field?.focus();
}

function clearError() {
  error.hidden = true;
  setText(error, "");
  for (const input of [username, password]) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
}

/** The message is announced once; the count goes on in the button, where it interrupts nobody. */
function waitFor(seconds) {
  let left = seconds;
  showError(`Too many attempts. Wait ${formatSpan(seconds)}, then try again.`);
  submit.disabled = true;
  clearInterval(waiting);
  const show = () => setText(submit, left > 0 ? `Try again in ${formatSpan(left)}` : "Log in");
  show();
  waiting = setInterval(() => {
    left -= 1;
    show();
    if (left <= 0) {
      clearInterval(waiting);
      submit.disabled = false;
      clearError();
    }
  }, 1_000);
}

function explain(failure) {
  if (failure.status === 429) {
    waitFor(failure.retryAfterSeconds ?? 30);
    return;
  }
  if (failure.status === 401) {
    password.value = "";
    showError("User name or password is wrong.", password);
    return;
  }
  if (failure.unreachable) {
    showError(`${failure.message} Check that it runs and try again.`);
    return;
  }
  showError(sentence(failure.message));
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearError();
  if (username.value.trim() === "") return showError("Enter your user name.", username);
  if (password.value === "") return showError("Enter your password.", password);
  submit.disabled = true;
  setText(submit, "Logging in");
  try {
    await api.logIn(username.value.trim(), password.value);
    location.replace(safeNext(parameters.get("next")));
  } catch (failure) {
    submit.disabled = false;
    setText(submit, "Log in");
    explain(failure);
  }
});

const reason = REASONS[parameters.get("reason")];
if (reason) {
  const notice = document.getElementById("reason");
  notice.hidden = false;
  setText(notice, reason);
}
wireThemeButton(document.getElementById("theme"));
username.focus();
