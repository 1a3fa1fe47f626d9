package account_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
)

// signRaw returns a token of exactly these bytes, signed with the bench's secret. An
// app's own signer may produce such a token, Issue cannot.
func (b *bench) signRaw(header, body string) string {
	return b.signParts(base64.RawURLEncoding.EncodeToString([]byte(header)), base64.RawURLEncoding.EncodeToString([]byte(body)))
}

func (b *bench) signParts(header, body string) string {
	mac := hmac.New(sha256.New, b.secret)
	mac.Write([]byte(header + "." + body))
	return header + "." + body + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

const rawHeader = `{"alg":"HS256","kid":"hs","typ":"JWT"}`

// rawBody returns a body that is valid but for what is added to it.
func rawBody(added string) string {
	return fmt.Sprintf(`{"sub":"alice","exp":%d%s}`, now.Add(time.Hour).Unix(), added)
}

// A signed token says one thing to every reader, or is refused.
func TestVerifyIsStrict(t *testing.T) {
	b := newBench(t)
	exp := now.Add(time.Hour).Unix()
	for _, c := range []struct{ name, header, body, want string }{
		{"as it should be", rawHeader, rawBody(""), ""},
		{"other claims", rawHeader, rawBody(`,"iss":"app","aud":["pim"],"roles":{"a":[1]}`), ""},
		{"sub in another case beside it", rawHeader, rawBody(`,"SUB":"mallory"`), ""}, // another name, of no meaning
		{"sub in another case only", rawHeader, fmt.Sprintf(`{"Sub":"alice","exp":%d}`, exp), "no user ID"},
		{"exp in another case only", rawHeader, `{"sub":"alice","Exp":4000000000}`, "no exp"},
		{"an earlier exp in another case", rawHeader, rawBody(`,"EXP":1`), ""},
		{"nbf in another case", rawHeader, rawBody(`,"NBF":4000000000`), ""},
		{"device in another case", rawHeader, rawBody(`,"Device":"phone"`), ""},
		{"sub with a long s", rawHeader, rawBody(`,"\u017fub":"mallory"`), ""},
		{"sub twice", rawHeader, rawBody(`,"sub":"mallory"`), "strict JSON"},
		{"sub twice, once escaped", rawHeader, rawBody(`,"\u0073ub":"mallory"`), "strict JSON"},
		{"exp twice", rawHeader, rawBody(`,"exp":4000000000`), "strict JSON"},
		{"another name twice", rawHeader, rawBody(`,"x":{"y":1,"y":2}`), "strict JSON"},
		{"sub of other bytes", rawHeader, fmt.Sprintf("{\"sub\":\"a\xff\",\"exp\":%d}", exp), "strict JSON"},
		{"sub of half a pair", rawHeader, fmt.Sprintf(`{"sub":"a\ud800","exp":%d}`, exp), "strict JSON"},
		{"device of half a pair", rawHeader, rawBody(`,"device":"\udc00x"`), "strict JSON"},
		{"bytes that are not UTF-8 elsewhere", rawHeader, rawBody(",\"x\":\"\xc0\xaf\""), "strict JSON"},
		{"exp as text", rawHeader, fmt.Sprintf(`{"sub":"alice","exp":"%d"}`, exp), "not a JSON number"},
		{"nbf as text", rawHeader, rawBody(`,"nbf":"1"`), "not a JSON number"},
		{"iat as text", rawHeader, rawBody(`,"iat":"1"`), "not a JSON number"},
		{"exp true", rawHeader, `{"sub":"alice","exp":true}`, "not a JSON number"},
		{"exp beyond any number", rawHeader, `{"sub":"alice","exp":1e999}`, "out of range"},
		{"nbf beyond any time", rawHeader, rawBody(`,"nbf":1e300`), "out of range"},
		{"sub a number", rawHeader, fmt.Sprintf(`{"sub":7,"exp":%d}`, exp), "strict JSON"},
		{"sub null", rawHeader, fmt.Sprintf(`{"sub":null,"exp":%d}`, exp), "no user ID"},
		{"device empty", rawHeader, rawBody(`,"device":""`), "no device ID"},
		{"device a list", rawHeader, rawBody(`,"device":["phone"]`), "strict JSON"},
		{"a body that goes on", rawHeader, rawBody("") + "x", "strict JSON"},
		{"two bodies", rawHeader, rawBody("") + rawBody(""), "strict JSON"},
		{"a body after a byte order mark", rawHeader, "\ufeff" + rawBody(""), "strict JSON"},
		{"a body that is null", rawHeader, "null", "no exp"},
		{"a header that goes on", rawHeader + "{}", rawBody(""), "its header"},
		{"a header after a byte order mark", "\ufeff" + rawHeader, rawBody(""), "its header"},
		{"kid twice", `{"alg":"HS256","kid":"ed","kid":"hs"}`, rawBody(""), "its header"},
		{"alg twice", `{"alg":"none","alg":"HS256","kid":"hs"}`, rawBody(""), "its header"},
		{"crit twice", `{"alg":"HS256","kid":"hs","crit":["x"],"crit":null}`, rawBody(""), "its header"},
		{"kid in another case", `{"alg":"HS256","KID":"hs"}`, rawBody(""), "none of the server's keys"},
		{"alg in another case", `{"ALG":"HS256","kid":"hs"}`, rawBody(""), "alg is unknown"},
		{"crit in another case", `{"alg":"HS256","kid":"hs","CRIT":["x"]}`, rawBody(""), ""},
		{"crit null", `{"alg":"HS256","kid":"hs","crit":null}`, rawBody(""), "crit"},
		{"kid of other bytes", "{\"alg\":\"HS256\",\"kid\":\"hs\xff\"}", rawBody(""), "its header"},
	} {
		t.Run(c.name, func(t *testing.T) {
			claims, err := b.keys.Verify(b.signRaw(c.header, c.body), now)
			refused(t, err, c.want)
			if err == nil && (claims.User != "alice" || claims.Device != "" || claims.Expires.Unix() != exp) {
				t.Errorf("let in as %+v", claims)
			}
		})
	}
}

// A signed text has one spelling.
func TestVerifyTakesOneSpelling(t *testing.T) {
	b := newBench(t)
	valid := b.signRaw(rawHeader, rawBody(""))
	if _, err := b.keys.Verify(valid, now); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(valid, ".")
	for _, odd := range []string{"\n", "\r\n", "\r", " ", "\t", "\u00a0", "=", "+", "/", "\x00", "é"} {
		for i := range 3 {
			p := append([]string(nil), parts...)
			for _, at := range []int{0, len(p[i]) / 2, len(p[i])} {
				p[i] = parts[i][:at] + odd + parts[i][at:]
				_, err := b.keys.Verify(strings.Join(p, "."), now)
				refused(t, err, "not base64url")
				// The same, signed with it.
				if i < 2 {
					_, err = b.keys.Verify(b.signParts(p[0], p[1]), now)
					refused(t, err, "not base64url")
				}
			}
		}
	}
}

// Whatever an app signs, the user who is let in is the one that every reader of its JSON
// finds.
func FuzzClaims(f *testing.F) {
	b := newBench(f)
	for _, body := range []string{rawBody(""), rawBody(`,"SUB":"mallory"`), rawBody(`,"sub":"mallory"`), rawBody(`,"device":"phone","nbf":1`), `{"sub":"a\ud800","exp":4e9}`, `{"exp":"4000000000","sub":"alice"}`, "null", "[]"} {
		f.Add(rawHeader, body)
	}
	f.Fuzz(func(t *testing.T, header, body string) {
		claims, err := b.keys.Verify(b.signRaw(header, body), now)
		if err != nil {
			if pim.KindOf(err) != pim.KindUnauthorized {
				t.Fatalf("error %v of kind %s", err, pim.KindOf(err))
			}
			return
		}
		var plain map[string]any
		if err := json.Unmarshal([]byte(body), &plain); err != nil || !utf8.ValidString(header+body) {
			t.Fatalf("%q was let in: %v", body, err)
		}
		if device, _ := plain["device"].(string); plain["sub"] != string(claims.User) || device != string(claims.Device) {
			t.Fatalf("%q was let in as %+v", body, claims)
		}
		if exp, _ := plain["exp"].(float64); int64(exp) != claims.Expires.Unix() {
			t.Fatalf("%q was let in until %s", body, claims.Expires)
		}
	})
}

func TestSubjectOf(t *testing.T) {
	b := newBench(t)
	if user, err := account.SubjectOf(b.signRaw(rawHeader, `{"sub":"alice","exp":1}`)); err != nil || user != "alice" {
		t.Errorf("%q, %v", user, err)
	}
	for _, bad := range []string{
		"", "x", "a.b.c", b.signRaw(rawHeader, `{"SUB":"alice"}`), b.signRaw(rawHeader, `{"sub":"a b"}`),
		b.signRaw(rawHeader, `{"sub":"alice","sub":"bob"}`), b.signRaw(rawHeader, `{"sub":"alice"}`) + "\n",
	} {
		if user, err := account.SubjectOf(bad); err == nil || pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%q is a token of %q: %v", bad, user, err)
		}
	}
	for exp, want := range map[string]string{`"1795863600"`: "not a JSON number", `1795863600000`: "in seconds", `1e400`: "in seconds"} {
		if _, err := account.SubjectOf(b.signRaw(rawHeader, `{"sub":"alice","exp":`+exp+`}`)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("exp %s: %v", exp, err)
		}
	}
}
