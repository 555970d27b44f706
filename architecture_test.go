package mailgate

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// layers is the import table of docs/architecture.md: a package may import lower layers only.
var layers = map[string]int{"config": 0, "imapwire": 0, "syncer/merge": 0, "tlsconf": 1, "router": 1, "auth": 1, "op": 1, "learned": 2, "logins": 2, "tlsconf/acme": 2, "backend": 2, "syncer": 3,
	"proxy": 4, "cutover/gate": 3, "cutover": 5, "cutover/protocol": 5, "store": 6, "admin": 6, "cmd/mailgate": 7}

// confined are modules that only some packages may see.
var confined = map[string][]string{
	"github.com/spf13/viper": {"config"}, "modernc.org/sqlite": {"store"}, "github.com/jackc/pgx/": {"store"},
	"github.com/emersion/": {"mailtest", "cmd/mailgate"}, "github.com/prometheus/": {"admin"},
	"github.com/go-ldap/": {"auth"}, "github.com/go-crypt/": {"auth"},
	"filippo.io/": {"learned"}, "github.com/caddyserver/": {"tlsconf/acme"}, "github.com/mholt/acmez": {"tlsconf/acme"},
	"github.com/miekg/dns": {"tlsconf/acme", "mailtest"}, "go.uber.org/zap": {"tlsconf/acme"},
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		f := strings.Fields(line)
		pkg := strings.TrimPrefix(f[0], "mailgate/")
		layer, known := layers[pkg]
		if !known && !strings.HasPrefix(pkg, "mailtest") && pkg != "mailgate" {
			t.Errorf("package %s stands in no layer", pkg)
		}
		seen++
		for _, imp := range f[1:] {
			for prefix, who := range confined {
				if strings.HasPrefix(imp, prefix) && !within(pkg, who) {
					t.Errorf("%s imports %s, which is for %v", pkg, imp, who)
				}
			}
			other, ours := strings.CutPrefix(imp, "mailgate/")
			if !known || !ours {
				continue
			}
			if below, ok := layers[other]; ok && below >= layer {
				t.Errorf("%s (layer %d) imports %s (layer %d)", pkg, layer, other, below)
			}
			if strings.HasPrefix(other, "mailtest") && pkg != "cmd/mailgate" {
				t.Errorf("%s imports %s", pkg, other)
			}
		}
	}
	if seen < len(layers) {
		t.Errorf("saw %d packages", seen)
	}
}

func within(pkg string, who []string) bool {
	for _, w := range who {
		if pkg == w || strings.HasPrefix(pkg, w+"/") {
			return true
		}
	}
	return false
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range layers {
		if !strings.Contains(string(text), "| "+pkg+" |") {
			t.Errorf("docs/architecture.md does not name %s", pkg)
		}
		if pkg == "cmd/mailgate" {
			continue
		}
		if _, err := os.Stat(filepath.Join(pkg, "doc.go")); err != nil {
			t.Error(err)
		}
	}
}
