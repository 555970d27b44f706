package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"mailgate/config"
)

// TestFewFiles: serve refuses to start for next to nobody, warns when many would be turned away, and says what to do.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	conf := config.Default()
	for _, tt := range []struct {
		files  uint64
		warns  bool
		refuse bool
	}{{1 << 62, false, false}, {20000, false, false}, {10480, false, false}, {10000, true, false}, {1024, true, false}, {100, true, false}, {99, false, true}, {0, false, true}} {
		var log bytes.Buffer
		err := checkFiles(tt.files, &conf, slog.New(slog.NewTextHandler(&log, nil)))
		var e exitError
		if (err != nil) != tt.refuse || err != nil && (!errors.As(err, &e) || e.code != exitRefused || !strings.Contains(err.Error(), "LimitNOFILE=")) {
			t.Errorf("%d files: %v", tt.files, err)
		}
		if strings.Contains(log.String(), "LimitNOFILE=") != tt.warns {
			t.Errorf("%d files: %s", tt.files, &log)
		}
	}
}

// TestDoctorFiles: the limit that counts is that of the process that serves.
func TestDoctorFiles(t *testing.T) {
	t.Parallel()
	conf := config.Default()
	conf.Control.Socket = filepath.Join(t.TempDir(), "s")
	d := newDoctor(nil, &conf)
	d.files()
	if c := d.checks[0]; !strings.Contains(c.Detail, "started from here") || c.Verdict == fail {
		t.Errorf("nothing runs: %+v", c)
	}
	l, err := net.Listen("unix", conf.Control.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mine, err := filesLimit()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := servingFiles(conf.Control.Socket); err != nil || n != mine {
		t.Errorf("%d, %v; want %d", n, err, mine)
	}
	conf.Sync.Watch = int(mine) // so many that there is no room
	d.files()
	if c := d.checks[1]; c.Verdict != fail || !strings.Contains(c.Detail, "which runs") {
		t.Errorf("it runs, without room: %+v", c)
	}
}
