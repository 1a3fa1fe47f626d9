package web

import (
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
)

// tagOf returns the ETag of a file, without quotes.
func tagOf(content []byte) string {
	sum := sha256.Sum256(content)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

func lengthOf(body []byte) string { return strconv.Itoa(len(body)) }

// accepts reports whether the lines of Accept-Encoding name the coding with a weight above 0.
// A "*" does not count: who takes a coding says so.
func accepts(lines []string, coding string) bool {
	for _, part := range strings.Split(strings.Join(lines, ","), ",") {
		name, rest, weighted := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(name), coding) {
			continue
		}
		if !weighted {
			return true
		}
		key, value, _ := strings.Cut(rest, "=")
		weight, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		return strings.EqualFold(strings.TrimSpace(key), "q") && err == nil && weight > 0
	}
	return false
}

// matches reports whether the lines of If-None-Match name etag, or anything. A proxy that has
// coded the answer anew may have made the tag a weak one.
func matches(lines []string, etag string) bool {
	for _, part := range strings.Split(strings.Join(lines, ","), ",") {
		part = strings.TrimSpace(part)
		if part == "*" || strings.TrimPrefix(part, "W/") == etag {
			return true
		}
	}
	return false
}
