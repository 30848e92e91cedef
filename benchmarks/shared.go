package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/reseal/reseal/store"
)

// Folder is where stores that several cases share are made. Defaults to the
// system's temporary folder.
var Folder string

// shared are stores that take long to fill: cases that leave them as large as
// they were share them. CloseShared removes them.
var shared struct {
	mu     sync.Mutex
	dir    string
	stores map[string]*store.Store
}

// sharedStore returns the store of n secrets with values of that length. It is
// not the caller's to close.
func sharedStore(ctx context.Context, n, length int) (*store.Store, error) {
	s, _, err := sharedFolder(ctx, n, length)
	return s, err
}

// sharedFolder returns that store with the folder that it lies in, for another
// process.
func sharedFolder(ctx context.Context, n, length int) (*store.Store, string, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	name := fmt.Sprintf("%d-%d", n, length)
	if s := shared.stores[name]; s != nil {
		return s, filepath.Join(shared.dir, name), nil
	}
	if shared.dir == "" {
		var err error
		if shared.dir, err = os.MkdirTemp(Folder, "reseal-shared-"); err != nil {
			return nil, "", err
		}
		shared.stores = map[string]*store.Store{}
	}
	dir := filepath.Join(shared.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, "", err
	}
	s, err := filledStore(ctx, dir, n, length)
	if err == nil {
		shared.stores[name] = s
	}
	return s, dir, err
}

// CloseShared closes and removes the stores that cases share.
func CloseShared() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	var errs []error
	for _, s := range shared.stores {
		errs = append(errs, s.Close())
	}
	shared.stores = nil
	if shared.dir != "" {
		errs = append(errs, os.RemoveAll(shared.dir))
		shared.dir = ""
	}
	return errors.Join(errs...)
}
