package account

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/strictjson"

	"github.com/golang-jwt/jwt/v5"
)

const (
	maxKeyFile  = 1 << 20 // bytes in a key file
	minSecret   = 32      // bytes in an HS256 secret: as many as the hash gives
	maxKeyIDLen = 64
)

// keyFile is the file that LoadKeys reads.
type keyFile struct {
	Keys []keyRecord `json:"keys"`
}

// keyRecord is one key in the file. The base64 is the standard alphabet's: what
// stands between the BEGIN and END lines of a PEM file, line breaks or not.
type keyRecord struct {
	ID          string    `json:"id"`                    // the token's kid; at most 64 bytes
	Alg         string    `json:"alg"`                   // EdDSA (Ed25519), ES256 or HS256
	Public      string    `json:"public,omitempty"`      // EdDSA, ES256: PKIX, base64
	Private     string    `json:"private,omitempty"`     // EdDSA, ES256: PKCS #8, base64; only to issue
	Secret      string    `json:"secret,omitempty"`      // HS256: at least 32 bytes, base64
	Created     time.Time `json:"created"`               // RFC 3339; of several keys, the newest issues
	Development bool      `json:"development,omitempty"` // made by CreateDevelopmentKey
}

// LoadKeys reads a key file. The error's chain holds fs.ErrNotExist if there is
// none; a file that everyone may write, or that is wrong in any key, is refused
// as a whole.
func LoadKeys(path string) (*Keys, error) {
	data, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(data)
	if err != nil {
		return nil, pim.Errorf(pim.KindInvalid, "key file %s: %w", path, err)
	}
	keys.path = path
	return keys, nil
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		kind := pim.KindUnavailable
		if errors.Is(err, fs.ErrNotExist) {
			kind = pim.KindNotFound
		}
		return nil, pim.Errorf(kind, "key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, pim.Errorf(pim.KindUnavailable, "key file: %w", err)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return nil, pim.Errorf(pim.KindForbidden, "key file %s: everyone may write it, and so become any user; run: chmod 600 %s", path, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, pim.Errorf(pim.KindUnavailable, "key file: %w", err)
	}
	if len(data) > maxKeyFile {
		return nil, pim.Errorf(pim.KindTooLarge, "key file %s: longer than 1 MiB", path)
	}
	return data, nil
}

func parseKeys(data []byte) (*Keys, error) {
	var file keyFile
	if err := strictjson.Unmarshal(data, &file); err != nil { // a misspelt field must not weaken a key silently
		return nil, err
	}
	if len(file.Keys) == 0 {
		return nil, errors.New("it holds no keys")
	}
	keys := &Keys{byID: make(map[string]*key, len(file.Keys))}
	for i := range file.Keys {
		k, err := file.Keys[i].key()
		if err != nil {
			return nil, pim.Errorf(pim.KindInvalid, "key %q: %w", file.Keys[i].ID, err)
		}
		if keys.byID[k.id] != nil {
			return nil, pim.Errorf(pim.KindInvalid, "key %q: its id is used twice", k.id)
		}
		keys.byID[k.id] = k
		if k.sign != nil && (keys.issuer == nil || k.created.After(keys.issuer.created)) {
			keys.issuer = k
		}
	}
	return keys, nil
}

// key checks a record and turns it into a key.
func (r *keyRecord) key() (*key, error) {
	if r.ID == "" || len(r.ID) > maxKeyIDLen {
		return nil, errors.New("its id must have 1 to 64 bytes")
	}
	k := &key{id: r.ID, created: r.Created, development: r.Development}
	switch r.Alg {
	case "EdDSA":
		k.method = jwt.SigningMethodEdDSA
	case "ES256":
		k.method = jwt.SigningMethodES256
	case "HS256":
		k.method = jwt.SigningMethodHS256
		return k, r.symmetric(k)
	default:
		return nil, pim.Errorf(pim.KindUnsupported, "alg %q is none of EdDSA, ES256, HS256", r.Alg)
	}
	return k, r.asymmetric(k)
}

func (r *keyRecord) symmetric(k *key) error {
	if r.Public != "" || r.Private != "" {
		return errors.New("an HS256 key has a secret, no public or private part")
	}
	secret, err := decode(r.Secret)
	if err != nil {
		return errors.New("its secret is not base64")
	}
	if len(secret) < minSecret {
		return errors.New("its secret is shorter than 32 bytes; make one with: openssl rand -base64 32")
	}
	k.verify, k.sign = secret, secret
	return nil
}

func (r *keyRecord) asymmetric(k *key) error {
	if r.Secret != "" {
		return errors.New("only an HS256 key has a secret")
	}
	der, err := decode(r.Public)
	if err != nil || len(der) == 0 {
		return errors.New("its public part is missing or not base64")
	}
	k.verify, err = x509.ParsePKIXPublicKey(der)
	if err != nil || !fits(r.Alg, k.verify) {
		return errors.New("its public part is not a PKIX public key for " + r.Alg)
	}
	if r.Private == "" {
		return nil
	}
	if der, err = decode(r.Private); err != nil {
		return errors.New("its private part is not base64")
	}
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return errors.New("its private part is not a PKCS #8 private key")
	}
	k.sign = private
	if !belongs(private, k.verify) {
		return errors.New("its private part does not belong to its public part")
	}
	return nil
}

// fits reports whether a public key can be used with alg.
func fits(alg string, public any) bool {
	switch p := public.(type) {
	case ed25519.PublicKey:
		return alg == "EdDSA"
	case *ecdsa.PublicKey:
		return alg == "ES256" && p.Curve == elliptic.P256()
	}
	return false
}

// belongs reports whether private's public part is public.
func belongs(private, public any) bool {
	switch p := private.(type) {
	case ed25519.PrivateKey:
		return p.Public().(ed25519.PublicKey).Equal(public)
	case *ecdsa.PrivateKey:
		return p.PublicKey.Equal(public)
	}
	return false
}

// decode reads base64 with or without the line breaks of a PEM file.
func decode(s string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
}
