package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the .want files anew")

// golden compares with a .want file. Paths of the test's folder are written as DIR.
func golden(t *testing.T, file, got string) {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	got = strings.ReplaceAll(got, dir, "DIR") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s\n--- got\n%s--- want\n%s", file, got, want)
	}
}

// Each testdata/*.yaml is wrong in some ways; its .want is what an admin is told.
func TestBadConfigurations(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := Load(file, nil)
			if !IsErrors(err) {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(strings.NewReplacer("mailgate secrets key", "", "client_secret", "", "secret_file", "").Replace(err.Error()), "secret") || strings.Contains(err.Error(), "hidden") { // the verb and the keys may be named
				t.Error("the error shows a password")
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".want", err.Error())
		})
	}
}

func TestBadRoutes(t *testing.T) {
	c := twoSides()
	files, err := filepath.Glob("testdata/*.routes")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c := *c
			c.Routes.File = file
			_, err := LoadRoutes(&c)
			if !IsErrors(err) {
				t.Fatalf("got %v", err)
			}
			golden(t, file+".want", err.Error())
		})
	}
}

// twoSides is a configuration with several hosts a side; two of OLD share a host name.
func twoSides() *Config {
	c := Default()
	c.Routes.File = "routes"
	host := func(name, imap string) Host {
		return Host{Name: name, IMAP: Endpoint{Protocol: IMAP, Host: imap, Port: 993, Mode: Implicit, URL: "imaps://" + imap + ":993"}}
	}
	c.Backends[Old].Hosts = []Host{host("old1", "imap1.old.example.net"), host("old2", "imap2.old.example.net"),
		host("a", "imap.shared.example.net"), host("b", "imap.shared.example.net")}
	c.Backends[New].Hosts = []Host{host("new1", "imap1.new.example.net"), host("imap3.new.example.net", "imap3.new.example.net"),
		host("n3", "IMAP4.new.example.net")}
	return &c
}
