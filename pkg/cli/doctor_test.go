package cli

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDoctorNamesWhatItAsksAWS with a person's own credentials: the help names each call.
func TestDoctorNamesWhatItAsksAWS(t *testing.T) {
	source, err := os.ReadFile("../doctor/aws.go")
	if err != nil {
		t.Fatal(err)
	}
	calls := regexp.MustCompile(`&(aws)?(iam|sts)\.(Get\w+)Input\{`).FindAllStringSubmatch(string(source), -1)
	if len(calls) < 3 {
		t.Fatalf("found %q", calls)
	}
	for _, call := range calls {
		if action := call[2] + ":" + call[3]; !strings.Contains(doctorLong, action) {
			t.Errorf("%s is called, and the help does not say so", action)
		}
	}
}
