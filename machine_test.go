package mailgate

import (
	"flag"
	"os"
	"strings"
	"testing"

	"mailgate/router"
)

var update = flag.Bool("update", false, "draw the machine anew in docs/architecture.md")

// TestMachineIsDrawn: the drawing in docs/architecture.md is the table that the code goes by.
// go test . -run TestMachineIsDrawn -update writes it anew.
func TestMachineIsDrawn(t *testing.T) {
	const path, begin, end = "docs/architecture.md", "<!-- drawn from router.Moves -->\n```text\n", "```\n"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	drawn, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no block that begins with %q", path, begin)
	}
	if drawn == router.Draw() {
		return
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+router.Draw()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s draws\n%s\nthe table is\n%s\ngo test . -run TestMachineIsDrawn -update", path, drawn, router.Draw())
}
