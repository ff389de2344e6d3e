package iam

import "strings"

// HasWildcard says whether a StringLike pattern holds more than itself.
func HasWildcard(pattern string) bool { return strings.ContainsAny(pattern, "*?") }

// Like is IAM's StringLike: '*' is any run of bytes, '?' is one, all else is itself.
func Like(pattern, s string) bool { return matches(pattern, s, false) }

// Covers says whether one pattern matches all that another matches. True is proven; false
// is not: for some pairs that are equal in effect no letter-by-letter proof is found.
func Covers(wide, narrow string) bool {
	// What narrow leaves open only what is as open in wide matches: its '*' a '*', its '?'
	// a '?' or a '*'. So the texts behind both need not be known.
	return matches(ordered(wide), ordered(narrow), true)
}

// matches walks over a pattern and a text, or a narrower pattern, of which '*' is more than
// one byte. Linear in len(s) times the number of '*' at the worst; no backtracking beyond
// the last '*'.
func matches(pattern, s string, narrow bool) bool {
	p, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == s[i] || pattern[p] == '?' && (!narrow || s[i] != '*')):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// ordered writes each run of wildcards in one way: all '?', then one '*'.
func ordered(pattern string) string {
	var b strings.Builder
	for i := 0; i < len(pattern); {
		end := i
		for end < len(pattern) && (pattern[end] == '*' || pattern[end] == '?') {
			end++
		}
		if run := pattern[i:end]; run != "" {
			marks := strings.ReplaceAll(run, "*", "")
			b.WriteString(marks)
			if len(marks) < len(run) {
				b.WriteByte('*')
			}
			i = end
			continue
		}
		b.WriteByte(pattern[i])
		i++
	}
	return b.String()
}
