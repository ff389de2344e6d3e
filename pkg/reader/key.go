package reader

import (
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxKey is S3's limit for an object's key, in bytes of UTF-8.
const maxKey = 1024

// parseKey takes the key from the part of the path behind /s3/, as it was escaped, and
// says what is wrong with it. An escaped slash is a slash of the key; nothing is cleaned
// away, because S3 takes keys letter by letter.
func (c *Config) parseKey(escaped string) (key, problem string) {
	key, err := url.PathUnescape(escaped)
	if err != nil {
		return "", "its escapes are malformed"
	}
	return key, c.checkKey(key)
}

// checkKey says what is wrong with a key, or nothing. S3 itself takes . and .. between
// slashes, but what stands between may resolve them, and so lead out of the prefix.
func (c *Config) checkKey(key string) string {
	switch {
	case key == "":
		return "it is empty"
	case len(key) > maxKey:
		return "it has more than 1,024 bytes"
	case !utf8.ValidString(key):
		return "it is no UTF-8"
	case strings.ContainsFunc(key, unicode.IsControl):
		return "it has a control character"
	case slices.ContainsFunc(strings.FieldsFunc(key, isSlash), isDots):
		return "it has . or .. between slashes"
	}
	return ""
}

func isSlash(r rune) bool     { return r == '/' || r == '\\' }
func isDots(part string) bool { return part == "." || part == ".." }
