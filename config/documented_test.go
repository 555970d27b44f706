package config

import (
	"os"
	"strings"
	"testing"
)

// TestEveryKeyIsDocumented compares docs/configuration.md with what is read.
func TestEveryKeyIsDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := []string{"….imap", "….pop3", "….submission", "….sieve"}
	for _, s := range settings() {
		keys = append(keys, s.key)
	}
	for k := range listKeys() {
		keys = append(keys, k)
	}
	for list, items := range listKeys() {
		if list != "hooks" {
			continue
		}
		for _, k := range items {
			keys = append(keys, list+"[]."+k)
		}
	}
	for _, k := range keys {
		for _, side := range Sides {
			k = strings.Replace(k, "backends."+side.String()+".", "….", 1)
		}
		if !strings.Contains(string(b), "`"+k+"`") {
			t.Errorf("%s is not in docs/configuration.md", k)
		}
	}
	for _, o := range routeOptions() {
		if !strings.Contains(string(b), "`"+o+"=") {
			t.Errorf("option %s is not in docs/configuration.md", o)
		}
	}
}
