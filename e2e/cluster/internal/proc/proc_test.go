package proc

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestACommandWithParenthesesDoesNotShiftTheFields(t *testing.T) {
	start, state, err := parseStat("42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1")
	if err != nil || start != 98765 || state != 'S' {
		t.Fatalf("%d %c %v", start, state, err)
	}
	if _, _, err := parseStat("42 (x) S 1"); err == nil {
		t.Fatal("a short line was accepted")
	}
}

func running(t *testing.T) (Record, *exec.Cmd) {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Skip("no sleep on this machine")
	}
	go func() { _ = cmd.Wait() }()
	start, _, err := stat(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	r := Record{Component: "sleep", PID: cmd.Process.Pid, Start: start, Boot: boot}
	t.Cleanup(func() { _ = r.End(time.Second) })
	return r, cmd
}

func TestAReusedProcessIdIsNotOursAndIsLeftAlone(t *testing.T) {
	r, _ := running(t)
	for _, other := range []Record{
		{PID: r.PID, Start: r.Start + 1, Boot: r.Boot},
		{PID: r.PID, Start: r.Start, Boot: "another boot"},
		{PID: 1}, {PID: 0}, {PID: -1},
	} {
		if other.Alive() {
			t.Errorf("%+v counts as alive", other)
		}
		if err := other.End(0); err != nil {
			t.Error(err)
		}
	}
	if !r.Alive() {
		t.Fatal("the process was ended by a record that did not mean it")
	}
}

func TestARecordedProcessIsEndedAndARecordSurvivesTheRoundTrip(t *testing.T) {
	r, _ := running(t)
	dir := t.TempDir()
	if err := r.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, ok := Read(dir, "sleep")
	if !ok || got.PID != r.PID || got.Start != r.Start || !got.Alive() {
		t.Fatalf("%+v", got)
	}
	if err := got.End(5 * time.Second); err != nil || got.Alive() {
		t.Fatalf("%v", err)
	}
}

func TestAHalfWrittenRecordIsNoRecord(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"", "{", `{"pid":0}`, `{"pid":1}`} {
		if err := os.WriteFile(dir+"/x.json", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, ok := Read(dir, "x"); ok {
			t.Errorf("%q was read", text)
		}
	}
}
