package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"spekeasy/internal/keystore"
)

// SQLite cannot tell a write-ahead log that was cut off from one that ends
// there, nor an old copy of the database from a new one. Requests would then
// be given new keys for key IDs that have keys already. The mark shows it: a
// small file that follows the count of commits. It is written after the
// commit is durable and not synced, so it can be behind the database but
// never ahead of it.

const (
	markSuffix = "-mark"
	markFormat = "spekeasy mark 1 %032x %020d\n"
	markLen    = len("spekeasy mark 1 ") + 32 + 1 + 20 + 1
)

type progress struct {
	database [16]byte
	commits  uint64
}

func (p progress) text() []byte { return fmt.Appendf(nil, markFormat, p.database, p.commits) }

// openMark compares the mark with the database's own count, and returns the
// file to write further marks to.
func openMark(path string, now progress) (*os.File, error) {
	path += markSuffix
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createFile(path, now.text()); err != nil {
			return nil, outage(err)
		}
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, outage(err)
	}
	if err := compareMark(f, now); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w; restore the newest state, or remove %s to accept this one", err, path)
	}
	return f, nil
}

func compareMark(f *os.File, now progress) error {
	text := make([]byte, markLen)
	if _, err := f.ReadAt(text, 0); err != nil {
		return fmt.Errorf("%w: the mark cannot be read: %w", keystore.ErrCorrupt, err)
	}
	mark, err := parseMark(text)
	switch {
	case err != nil:
		return err
	case mark.database != now.database:
		return fmt.Errorf("%w: this is not the database that was last used here", keystore.ErrCorrupt)
	case mark.commits > now.commits:
		return fmt.Errorf("%w: the last %d of %d transactions are missing",
			keystore.ErrCorrupt, mark.commits-now.commits, mark.commits)
	default:
		return nil
	}
}

func parseMark(text []byte) (p progress, err error) {
	var id []byte
	if _, err := fmt.Sscanf(string(text), "spekeasy mark 1 %32x %d\n", &id, &p.commits); err != nil || copy(p.database[:], id) != 16 {
		return progress{}, fmt.Errorf("%w: the mark is not readable", keystore.ErrCorrupt)
	}
	if string(p.text()) != string(text) {
		return progress{}, fmt.Errorf("%w: the mark is not readable", keystore.ErrCorrupt)
	}
	return p, nil
}
