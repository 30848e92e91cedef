package faultvfs_test

import (
	"os"
	"testing"

	"github.com/reseal/reseal/internal/faultvfs"
)

func TestMain(m *testing.M) {
	faultvfs.Install()
	os.Exit(m.Run())
}
