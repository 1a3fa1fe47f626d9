// Package web serves the chat page: the files that the page's build has left in web/dist, which
// this package embeds, and the login by which a developer becomes any user on one machine.
//
// A bundle is not needed to build the package. Without one the page says how to get it.
package web

import (
	"bytes"
	"embed"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/pim-im/pim"
)

// The pattern matches dist-missing.html, which is in the repository, so that the package is
// built without dist, too, which is not.
//
//go:embed all:dist*
var embedded embed.FS

const (
	bundleDir   = "dist"
	missingPage = "dist-missing.html"
	indexPage   = "index.html"
	assetDir    = "assets" // its files have a hash of their content in their names
)

// policy allows the page what it needs and nothing else: files and connections of its own
// origin. Blob URLs are not among them, nor is anything inline.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; " +
	"connect-src 'self'; manifest-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"

// Options say what the page may do besides being served. The zero value is what an app needs that
// brings its own tokens.
type Options struct {
	// Issue returns a token for user, signed with the server's own development key. Nil, or an
	// error: nobody logs in here, and the app that embeds pim brings the tokens.
	Issue func(user pim.UserID) (string, error)
	// Login reports whether Issue would give tokens now. Nil: it would if it is not nil.
	Login func() bool
}

// Serve adds to mux the chat page at /, its files below /assets/, what the page must know at
// /page.json, and the login at /login. The page names all of it relative to its own address, so
// that a proxy may put it below a path, which it takes away from what it passes on.
func Serve(mux *http.ServeMux, o Options) { serve(mux, embedded, o) }

// Built reports whether the bundle was there when this program was built.
func Built() bool {
	_, err := fs.Stat(embedded, path.Join(bundleDir, indexPage))
	return err == nil
}

func serve(mux *http.ServeMux, files fs.FS, o Options) {
	found := load(files)
	for pattern, handle := range map[string]http.HandlerFunc{
		"GET /{$}":                     index(found[indexPage], files),
		"GET /" + assetDir + "/{name}": found.asset,
		"GET /page.json":               o.page,
		"POST /login":                  o.login,
	} {
		mux.Handle(pattern, guarded(handle))
	}
}

// guarded adds what tells browsers to refuse whatever the page does not need.
func guarded(handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", policy)
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "no-referrer")
		handle(w, r)
	}
}

// index returns what serves the page itself, or says how to get it if it is nil. Browsers may keep
// the page, and ask by its ETag whether there is another.
func index(page *file, files fs.FS) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		if page == nil {
			missing(w, files)
			return
		}
		page.serve(w, r)
	}
}

// asset serves a file that never changes, since its name has a hash of its content.
func (b bundle) asset(w http.ResponseWriter, r *http.Request) {
	f, ok := b[path.Join(assetDir, r.PathValue("name"))]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	f.serve(w, r)
}

// missing says how to get the bundle.
func missing(w http.ResponseWriter, files fs.FS) {
	text, err := fs.ReadFile(files, missingPage)
	if err != nil { // a defect, caught by any test
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write(text) // whoever asked may be gone
}

// file is one file of the bundle, in the codings that the build has made of it.
type file struct {
	kind  string // its media type
	etag  string // without quotes
	plain []byte
	coded map[string][]byte // by the name of the coding, as in Accept-Encoding
}

// codings are the codings of a file, the best first, and how the build calls them.
var codings = []struct{ name, extension string }{{"br", ".br"}, {"gzip", ".gz"}}

// bundle has the files of a build, by their paths below dist.
type bundle map[string]*file

// load reads the bundle. It is empty if there is none.
func load(files fs.FS) bundle {
	found := make(bundle)
	_ = fs.WalkDir(files, bundleDir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || isCoded(name) {
			return nil // no bundle, or a part of a file that comes by its own name
		}
		plain, err := fs.ReadFile(files, name)
		if err != nil {
			return nil
		}
		f := &file{kind: mediaType(name), etag: tagOf(plain), plain: plain, coded: make(map[string][]byte)}
		for _, c := range codings {
			if b, err := fs.ReadFile(files, name+c.extension); err == nil {
				f.coded[c.name] = b
			}
		}
		found[strings.TrimPrefix(name, bundleDir+"/")] = f
		return nil
	})
	return found
}

func isCoded(name string) bool {
	for _, c := range codings {
		if path.Ext(name) == c.extension {
			return true
		}
	}
	return false
}

// mediaType returns the media type of the file. Those of the bundle are named here, since package
// mime goes by files of the machine.
func mediaType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".webmanifest":
		return "application/manifest+json"
	}
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	return "application/octet-stream"
}

// serve writes the file in the best coding that the client takes, or that it has not changed.
func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	body, etag := f.plain, f.etag
	head := w.Header()
	head.Set("Vary", "Accept-Encoding")
	for _, c := range codings {
		if coded, ok := f.coded[c.name]; ok && accepts(r.Header.Values("Accept-Encoding"), c.name) {
			body, etag = coded, etag+"-"+c.name
			head.Set("Content-Encoding", c.name)
			break
		}
	}
	etag = `"` + etag + `"`
	head.Set("ETag", etag)
	head.Set("Content-Type", f.kind)
	if matches(r.Header.Values("If-None-Match"), etag) {
		head.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	head.Set("Content-Length", lengthOf(body))
	if r.Method != http.MethodHead {
		_, _ = bytes.NewReader(body).WriteTo(w) // whoever asked may be gone
	}
}
