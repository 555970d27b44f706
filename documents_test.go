package mailgate

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// declared are the names that the product's packages declare: "Name", "Type.Member", "pkg.Name", "pkg.Type.Member".
func declared(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		add := func(parts ...string) {
			name := strings.Join(parts, ".")
			names[name], names[f.Name.Name+"."+name] = true, true
			names[parts[len(parts)-1]] = true
		}
		for _, decl := range f.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if decl.Recv == nil {
					add(decl.Name.Name)
				} else {
					add(receiver(decl.Recv.List[0].Type), decl.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					declare(spec, add)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func receiver(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

func declare(spec ast.Spec, add func(...string)) {
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		for _, n := range spec.Names {
			add(n.Name)
		}
	case *ast.TypeSpec:
		add(spec.Name.Name)
		var members *ast.FieldList
		switch x := spec.Type.(type) {
		case *ast.StructType:
			members = x.Fields
		case *ast.InterfaceType:
			members = x.Methods
		}
		if members == nil {
			return
		}
		for _, m := range members.List {
			for _, n := range m.Names {
				add(spec.Name.Name, n.Name)
			}
		}
	}
}

// TestDocumentsNameWhatExists: what the documents for developers put in backticks is there: a name of the code, a key of
// the configuration, or a file.
func TestDocumentsNameWhatExists(t *testing.T) {
	names := declared(t)
	keys, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("`([A-Za-z_][A-Za-z0-9_]*(?:\\.[A-Za-z_][A-Za-z0-9_]*)*)`")
	for _, doc := range []string{"docs/architecture.md", "docs/design.md"} {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		found := name.FindAllStringSubmatch(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s names nothing", doc)
		}
		for _, m := range found {
			if names[m[1]] || strings.ContainsAny(m[1], "._") && strings.Contains(string(keys), m[1]) {
				continue
			}
			if _, err := os.Stat(m[1]); err != nil {
				t.Errorf("%s: there is no %s", doc, m[1])
			}
		}
	}
}
