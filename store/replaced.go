package store

import (
	"os"
	"time"
)

// sameFile refuses to go on when another file is at the store's path than the
// one that was opened, or none: what is written would go to a file that nobody
// finds any more. Writers look each time, readers once a second.
func (s *Store) sameFile(every time.Duration) error {
	if !s.own || s.file == nil {
		return nil
	}
	if last := s.looked.Load(); every > 0 && time.Since(s.opened) < time.Duration(last)+every {
		return nil
	}
	s.looked.Store(int64(time.Since(s.opened)))
	if info, err := os.Stat(s.path); err != nil || !os.SameFile(info, s.file) {
		return ErrReplaced
	}
	return nil
}

// rememberFile notes which file was opened.
func (s *Store) rememberFile() (err error) {
	s.opened = time.Now()
	s.file, err = os.Stat(s.path)
	return err
}
