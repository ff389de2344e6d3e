package iam

import "strings"

// HasWildcard says whether a StringLike pattern holds more than itself.
func HasWildcard(pattern string) bool { return strings.ContainsAny(pattern, "*?") }

// Like is IAM's StringLike: '*' is any run of bytes, '?' is one, all else is itself.
// Linear in len(s) times the number of '*' at the worst; no backtracking beyond the last '*'.
func Like(pattern, s string) bool {
	p, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
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
