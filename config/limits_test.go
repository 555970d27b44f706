package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "500000": 500000, "512K": 512 << 10, "10M": 10 << 20, "10m": 10 << 20, "2G": 2 << 30, "1024G": 1 << 40} {
		n, err := ParseSize(text)
		if err != nil || n != want {
			t.Errorf("%q: %d, %v", text, n, err)
		}
		if back, err := ParseSize(SizeText(n)); err != nil || back != n {
			t.Errorf("%d is written %q", n, SizeText(n))
		}
	}
	if s := SizeText(10 << 20); s != "10M" {
		t.Error(s)
	}
	for _, text := range []string{"", "K", "-1", "+1K", "1.5M", "1MB", "1T", "1025G", "9999999999999999999", "1 M"} {
		if n, err := ParseSize(text); err == nil {
			t.Errorf("%q is %d", text, n)
		}
	}
}

// TestSyncLimits reads all the limits, and shows them so that they can be read again.
func TestSyncLimits(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mailgate.yaml")
	if err := os.WriteFile(filepath.Join(dir, "routes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(text string) *Config {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := load(`listen: ["imap://127.0.0.1:1143"]
backends:
  old: {imap: "imap://127.0.0.1:10143", sync: {max_connections: 4, messages_per_second: 100, bytes_per_second: 5M}}
  new: {imap: "imap://127.0.0.1:11143", sync: {bytes_per_second: 0}}
sync:
  user_messages_per_second: 20
  user_bytes_per_second: 600000
  windows: ["Mon-Fri 19:00-07:00", "Sat,Sun 00:00-24:00"]
`)
	for range 2 {
		if c.Backends[Old].SyncLimits != (SyncLimits{4, 100, 5 << 20}) || c.Backends[New].SyncLimits != (SyncLimits{}) ||
			c.Sync.UserMessagesPerSecond != 20 || c.Sync.UserBytesPerSecond != 600000 || len(c.Sync.Windows) != 2 || c.Sync.Windows[1].Text != "Sat,Sun 00:00-24:00" {
			t.Fatalf("%+v %+v %+v", c.Backends[Old].SyncLimits, c.Backends[New].SyncLimits, c.Sync)
		}
		var b strings.Builder
		if err := c.Show(&b); err != nil {
			t.Fatal(err)
		}
		c = load(b.String())
	}
	t.Setenv("MAILGATE_SYNC_WINDOWS", "Mon-Fri 20:00-06:00")
	if c := load(`listen: ["imap://127.0.0.1:1143"]
backends: {old: {imap: "imap://127.0.0.1:10143"}, new: {imap: "imap://127.0.0.1:11143"}}
`); len(c.Sync.Windows) != 1 || c.Sync.Windows[0].Text != "Mon-Fri 20:00-06:00" {
		t.Errorf("from the environment: %+v", c.Sync.Windows)
	}
}
