package sip_test

import (
	"flag"
	"os"
	"testing"
)

// slow marks a story that takes as long as its clocks do.
func slow(t *testing.T) {
	t.Helper()
	if os.Getenv("YESLINE_WHOLE") == "" {
		t.Skip("it takes long: make test runs it, or set YESLINE_WHOLE=1")
	}
}

// TestMain lets more stories run at once than there are processors: they wait
// for sound or for a clock. Who says -parallel is heard.
func TestMain(m *testing.M) {
	flag.Parse()
	told := racing
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if !told {
		flag.Set("test.parallel", "6")
	}
	os.Exit(m.Run())
}
