package installation

import (
	"regexp"
	"testing"
)

// TestWhatIsAskedForIsUnknown: it can be a label's value, and is another one each time.
func TestWhatIsAskedForIsUnknown(t *testing.T) {
	first, second := unknownPolicy(), unknownPolicy()
	if first == second || !regexp.MustCompile(`^bucket-access-check-[a-z0-9]{10}$`).MatchString(first) {
		t.Fatal(first, second)
	}
}
