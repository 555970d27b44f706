package syncer_test

import (
	"os"
	"testing"

	"mailgate/mailtest/lab"
)

// TestMain lets more tests run at once than there are cores.
func TestMain(m *testing.M) {
	lab.SideBySide(8)
	os.Exit(m.Run())
}
