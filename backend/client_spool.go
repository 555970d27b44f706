package backend

import (
	"bytes"
	"io"
	"os"
)

// spool holds the bodies of one message that came before its UID: the first bytes in memory, the rest in unlinked files.
type spool struct {
	list   []spooled
	memory int   // bytes of all
	total  int64 // bytes of all, files and memory
}

type spooled struct {
	section string
	size    int64
	data    []byte
	file    *os.File // already removed; nil when all is in data
}

// take reads a body of size bytes whole.
func (s *spool) take(section string, size int64, r io.Reader) error {
	if len(s.list) == spoolFiles {
		return tooMany("bodies before the UID of their message", spoolFiles)
	}
	if s.total += size; s.total > spoolDisk {
		return tooMany("bytes of bodies before the UID of their message", spoolDisk)
	}
	s.list = append(s.list, spooled{section: section, size: size})
	b := &s.list[len(s.list)-1]
	room := min(size, int64(spoolMemory-s.memory))
	var err error
	if b.data, err = io.ReadAll(io.LimitReader(r, room)); err != nil || size == room {
		s.memory += len(b.data)
		return err
	}
	s.memory += len(b.data)
	if b.file, err = os.CreateTemp("", "mailgate-body-"); err != nil {
		return err
	}
	if err := os.Remove(b.file.Name()); err != nil {
		return err
	}
	_, err = io.Copy(b.file, r)
	return err
}

// reader reads a body from its beginning.
func (s *spooled) reader() (io.Reader, error) {
	if s.file == nil {
		return bytes.NewReader(s.data), nil
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.MultiReader(bytes.NewReader(s.data), s.file), nil
}

func (s *spool) close() {
	for _, b := range s.list {
		if b.file != nil {
			_ = b.file.Close()
		}
	}
}
