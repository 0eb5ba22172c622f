package layout

import (
	"net/netip"
	"strings"
	"testing"
)

func mustNew(t *testing.T, name string) Layout {
	t.Helper()
	l, err := New(name, "/var/lib/ers-test/"+name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestTheDefaultClusterHasTheFamiliarAddresses(t *testing.T) {
	l := mustNew(t, "ers")
	for got, want := range map[string]string{
		l.Netns(): "ers", l.HostIf(): "ersh0", l.NodeIP(): "192.168.231.2", l.HostIP(): "192.168.231.1",
		l.DNSIP(): "10.96.0.10", l.KubernetesIP(): "10.96.0.1", l.Node(): "ers-node-1", l.Services().String(): "10.96.0.0/16",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestNamesOutsideTheGrammarAreRefusedWithTheRule(t *testing.T) {
	for _, name := range []string{"", "A", "1a", "a-", "a_b", "a/b", "../x", strings.Repeat("a", 17)} {
		if _, err := New(name, ""); err == nil || !strings.Contains(err.Error(), "1 to 16 characters") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestAStateFolderThatDownMustNotDeleteIsRefused(t *testing.T) {
	for _, state := range []string{"/", "/var", "/" + strings.Repeat("x", 70) + "/y"} {
		if _, err := New("ers", state); err == nil {
			t.Errorf("%s was accepted", state)
		}
	}
}

func TestNoTwoSlotsOverlap(t *testing.T) {
	base := mustNew(t, "ers")
	for i := range Slots {
		a := base
		a.Slot = i
		if len(a.HostIf()) > 15 || len(a.NodeIf()) > 15 {
			t.Errorf("slot %d: interface name longer than the kernel allows", i)
		}
		for j := range Slots {
			b := base
			b.Slot = j
			clash, found := a.Clash([]netip.Prefix{b.Link(), b.Services(), b.Pods()})
			if found != (i == j) {
				t.Errorf("slots %d and %d: clash %v on %s", i, j, found, clash)
			}
		}
	}
}

func TestATakenRangeMovesTheClusterToTheNextSlot(t *testing.T) {
	l := mustNew(t, "ers")
	got, err := l.Choose([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("10.96.4.0/24")})
	if err != nil || got.Slot != 1 {
		t.Fatalf("slot %d, %v", got.Slot, err)
	}
	if _, err := l.Choose([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); err == nil || !strings.Contains(err.Error(), "10.0.0.0/8") {
		t.Fatalf("a machine that routes 10/8 must be told so: %v", err)
	}
}

func TestASavedSlotIsFoundAgainAndAForeignFolderIsRefused(t *testing.T) {
	dir := t.TempDir()
	l := Layout{Name: "one", Slot: 7, State: dir}
	if err := l.Save(); err != nil {
		t.Fatal(err)
	}
	got, ok, err := Layout{Name: "one", State: dir}.Load()
	if err != nil || !ok || got.Slot != 7 || got.State != dir {
		t.Fatalf("%+v %v %v", got, ok, err)
	}
	if _, _, err := (Layout{Name: "two", State: dir}).Load(); err == nil || !strings.Contains(err.Error(), "belongs to the cluster") {
		t.Fatalf("%v", err)
	}
}

func TestEveryNameHasAPreferredSlotInRange(t *testing.T) {
	for _, name := range []string{"a", "b", "second", "zz-9"} {
		if s := PreferredSlot(name); s < 1 || s >= Slots {
			t.Errorf("%s: %d", name, s)
		}
	}
}
