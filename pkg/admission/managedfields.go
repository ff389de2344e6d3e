package admission

import "bytes"

// What API servers note of who set which field is half of a review, and nothing is read of it.
// The key is searched for by its end: a capital F is rare.
var (
	managed = []byte(`,"managed`)
	fields  = []byte(`Fields":[`)
)

// withoutManagedFields cuts managed fields out of a review, in place, where it can be seen at
// once where they end. Searching for a byte is twenty times as fast as reading on.
//
// In JSON, a quotation mark behind a comma is no escaped one, so that it begins or ends a string;
// and as a letter is behind it, it begins one. So what stands before the comma is outside of
// strings: the key is one, and the bracket that is found closes a list. There is no other bracket
// from the key to it, so it is the list of that key. What is no JSON may lose anything; what is cut
// is not looked at.
func withoutManagedFields(review []byte) []byte {
	kept, rest := 0, review
	for {
		found := bytes.Index(rest, fields)
		if found < 0 {
			return review[:kept+copy(review[kept:], rest)]
		}
		keep, behind := found+len(fields), found+len(fields)
		if bytes.HasSuffix(rest[:found], managed) {
			if length := listLength(rest[behind:]); length >= 0 {
				keep, behind = found-len(managed), behind+length
			}
		}
		kept += copy(review[kept:], rest[:keep])
		rest = rest[behind:]
	}
}

// listLength is the number of bytes up to the end of a list that holds no other, if a key
// follows it; or -1.
func listLength(rest []byte) int {
	inside := rest
	if other := bytes.IndexByte(rest, '['); other >= 0 {
		inside = rest[:other] // of which no byte is looked at again, for whatever list comes next
	}
	end := bytes.IndexByte(inside, ']')
	if end < 0 {
		return -1
	}
	behind := bytes.TrimLeft(rest[end+1:], "}")
	if len(behind) < 3 || behind[0] != ',' || behind[1] != '"' || behind[2]|' ' < 'a' || behind[2]|' ' > 'z' {
		return -1
	}
	return end + 1
}
