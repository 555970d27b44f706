package auth

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets")
	read := func(text string) (map[string]string, error) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := ReadSecrets(path)
		plain := make(map[string]string)
		for k, v := range m {
			plain[k] = string(v)
		}
		return plain, err
	}
	m, err := read("# staff\n\na@x.test:p:q r \r\nb@x.test \t #two\n")
	if err != nil || len(m) != 2 || m["a@x.test"] != "p:q r " || m["b@x.test"] != "#two" {
		t.Fatalf("%d users, %v", len(m), err)
	}
	for name, text := range map[string]string{
		"no password": "\nhidden\n", "empty": "\na@x.test:\n", "no address": "\n:hidden\n",
		"twice": "a@x.test:hidden\na@x.test:hidden\n", "NUL": "\na@x.test:hid\x00den\n",
	} {
		_, err := read(text)
		if err == nil || !strings.Contains(err.Error(), path+":2: ") || strings.Contains(err.Error(), "hid") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
