package provision

import "testing"

func TestSizesAreReadAsKubernetesWritesThem(t *testing.T) {
	for text, want := range map[string]int64{"64Mi": 64 << 20, "1Gi": 1 << 30, "1G": 1e9, "500k": 500_000, "4096": 4096} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: %d %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "-1Gi", "1.5Gi", "1Pi2", "99999999999Ti", "Gi"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%s was read as %d", text, got)
		}
	}
}
