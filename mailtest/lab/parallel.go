package lab

import (
	"flag"
	"strconv"
)

// SideBySide is for TestMain: n of a package's parallel tests run at once, where -parallel asks for no other number. Tests before real
// servers mostly wait, for them and for time to pass: there may be many more of them than cores.
func SideBySide(n int) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if asked {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(n)); err != nil {
		panic(err) // the flag is there, and takes numbers
	}
}
