package account

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wholefile"
)

// CreateDevelopmentKey writes a key file with one fresh Ed25519 key, private
// part included, so that `pim serve` and `pim token` work without any set-up.
// Only its owner may read the file (mode 0600). The file appears whole or not at all,
// and never replaces another: if path exists, the error is KindConflict and its chain
// holds fs.ErrExist.
func CreateDevelopmentKey(path string) (*Keys, error) {
	data, err := developmentKeyFile(time.Now())
	if err != nil {
		return nil, pim.Errorf(pim.KindInternal, "make a development key: %w", err)
	}
	if err := wholefile.Create(path, data); err != nil {
		kind := pim.KindUnavailable
		if errors.Is(err, fs.ErrExist) {
			kind = pim.KindConflict
		}
		return nil, pim.Errorf(kind, "create key file %s: %w", path, err)
	}
	return LoadKeys(path)
}

func developmentKeyFile(now time.Time) ([]byte, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	publicDER, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(map[string][]keyRecord{"keys": {{
		ID:          "development-" + strings.ToLower(rand.Text()[:8]),
		Alg:         "EdDSA",
		Public:      base64.StdEncoding.EncodeToString(publicDER),
		Private:     base64.StdEncoding.EncodeToString(privateDER),
		Created:     now.UTC().Format(time.RFC3339),
		Development: true,
	}}}, "", "  ")
	return append(data, '\n'), err
}
