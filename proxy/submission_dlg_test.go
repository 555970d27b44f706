package proxy

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// A transcript in testdata/*.dlg is one session behind the login, as seen from all ends:
//
//	C: what the client sends       (lines that follow each other travel in one segment)
//	S: what the gateway answers him
//	G:   what the gateway sends to the backend
//	B:   what the backend answers
//
// Lines are as of mailtest.Talk.Dialogue, "C" "..." and faults ("C! eof", "B! close",
// "B! fire NAME" and "C! await NAME") too. Lines that begin with @ set
// the scene: @backend with the extensions that both sides offer, @direct when the client must hear the same without the
// gateway, @log with a text that the gateway's log must hold at the end, and settings.
type transcript struct {
	name, client, backend string
	extensions, logs      []string
	direct                bool
	o                     rigOptions
}

func readTranscript(t *testing.T, file string) *transcript {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := &transcript{name: strings.TrimSuffix(filepath.Base(file), ".dlg"), o: rigOptions{strict: true}}
	var configure []func(*config.Config)
	d.o.configure = func(c *config.Config) {
		for _, f := range configure {
			f(c)
		}
	}
	var segment string
	flush := func() {
		if segment != "" {
			d.client += `C" ` + strconv.Quote(segment) + "\n"
		}
		segment = ""
	}
	for n, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '@' {
			key, value, _ := strings.Cut(line[1:], " ")
			switch key {
			case "backend":
				d.extensions = strings.Split(value, ", ")
			case "direct":
				d.direct = true
			case "log":
				d.logs = append(d.logs, value)
			case "max_size":
				size, _ := strconv.ParseInt(value, 10, 64)
				configure = append(configure, func(c *config.Config) { c.Submit.MaxSize = size })
			case "bare_newlines":
				configure = append(configure, func(c *config.Config) { c.Submit.BareNewlines = value })
			case "data_time":
				dur, _ := time.ParseDuration(value)
				configure = append(configure, func(c *config.Config) { c.Limits.DataTime = dur })
			case "backend_time":
				d.o.mostWait, _ = time.ParseDuration(value)
			case "idle_grace":
				d.o.idleGrace, _ = time.ParseDuration(value)
			case "client_tls":
				d.o.frontTLS = config.Implicit
			case "backend_tls":
				d.o.backTLS = config.Implicit
			default:
				t.Fatalf("%s:%d: %s", file, n+1, line)
			}
			continue
		}
		if line[1] == '"' && line[0] == 'C' { // joins its segment too
			raw, err := strconv.Unquote(strings.TrimSpace(line[2:]))
			if err != nil {
				t.Fatalf("%s:%d: %v", file, n+1, err)
			}
			segment += raw
			continue
		}
		if strings.HasPrefix(line, "C:") {
			segment += strings.TrimPrefix(line[2:], " ") + "\r\n"
			continue
		}
		flush()
		rest := line[1:]
		switch {
		case line[1] == '!' && line[0] == 'C':
			d.client += "!" + strings.TrimSpace(rest[1:]) + "\n"
		case line[1] == '!' && line[0] == 'B':
			d.backend += "!" + strings.TrimSpace(rest[1:]) + "\n"
		case line[0] == 'S':
			d.client += "S" + rest + "\n"
		case line[0] == 'G': // to a backend the gateway is the client
			d.backend += "C" + rest + "\n"
		case line[0] == 'B':
			d.backend += "S" + rest + "\n"
		default:
			t.Fatalf("%s:%d: %s", file, n+1, line)
		}
	}
	flush()
	return d
}

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dlg")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		d := readTranscript(t, file)
		t.Run(d.name, func(t *testing.T) { d.run(t, false) })
		if d.direct {
			t.Run(d.name+" direct", func(t *testing.T) { d.run(t, true) })
		}
	}
}

func (d *transcript) run(t *testing.T, direct bool) {
	done := make(chan struct{})
	serve := smtpBackend(d.extensions, func(k *mailtest.Talk) {
		defer close(done)
		k.Dialogue(d.backend)
	})
	r := newSubmissionRig(t, d.o, serve, idleBackend(d.extensions...))
	k := (*mailtest.Talk)(nil)
	if direct {
		k = mailtest.Dial(t, r.old.Addr, nil)
		k.Expect("220 ...")
		clientLogin(k)
	} else {
		k = r.login()
	}
	for i, part := range strings.Split(d.client, "!await ") {
		if i > 0 { // an event of the backend's side
			event, rest, _ := strings.Cut(part, "\n")
			r.old.Await(event)
			part = rest
		}
		k.Dialogue(part)
	}
	k.Close()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the backend's side of the transcript has not ended")
	}
	r.end()
	for _, text := range d.logs {
		if !direct && !strings.Contains(r.log.String(), text) {
			t.Errorf("no %q in the log", text)
		}
	}
	if strings.Contains(r.log.String(), rigPassword) || strings.Contains(r.log.String(), rigPlain) {
		t.Error("a secret is in the log")
	}
}
