// Package oci is a small image registry and a small client that pushes to any registry.
package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"
	"time"
)

// Limits of what a client may send.
const (
	maxManifest = 4 << 20
	maxBlob     = 4 << 30
	maxUploads  = 64
)

var (
	nameForm   = regexp.MustCompile(`^[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
	tagForm    = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	uploadForm = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

// Registry keeps blobs and manifests in a folder and speaks the OCI distribution protocol: pull, push (whole and in chunks), tags.
// It knows no users: it is for a test's own network.
type Registry struct {
	dir string

	mutex   sync.Mutex
	uploads map[string]time.Time
	next    uint64
}

// NewRegistry opens the folder.
func NewRegistry(dir string) (*Registry, error) {
	for _, sub := range []string{"blobs", "manifests", "uploads"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	leftovers, _ := filepath.Glob(filepath.Join(dir, "uploads", "*"))
	for _, file := range leftovers {
		_ = os.Remove(file)
	}
	return &Registry{dir: dir, uploads: map[string]time.Time{}}, nil
}

func (r *Registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	path, ok := strings.CutPrefix(q.URL.Path, "/v2/")
	if !ok {
		fail(w, http.StatusNotFound, "UNSUPPORTED", "this registry serves /v2/ only")
		return
	}
	if path == "" {
		answerJSON(w, struct{}{})
		return
	}
	if path == "_catalog" {
		r.catalog(w)
		return
	}
	for _, route := range []struct {
		middle string
		serve  func(w http.ResponseWriter, q *http.Request, name, rest string)
	}{{"/manifests/", r.manifest}, {"/blobs/uploads/", r.upload}, {"/blobs/", r.blob}, {"/tags/", r.tags}} {
		if at := strings.LastIndex(path, route.middle); at >= 0 {
			name, rest := path[:at], path[at+len(route.middle):]
			if len(name) > 200 || !nameForm.MatchString(name) {
				fail(w, http.StatusBadRequest, "NAME_INVALID", "a repository name is lower case words with / between them")
				return
			}
			route.serve(w, q, name, rest)
			return
		}
	}
	fail(w, http.StatusNotFound, "UNSUPPORTED", "no such endpoint")
}

func (r *Registry) blobPath(digest string) string {
	return filepath.Join(r.dir, "blobs", strings.TrimPrefix(digest, "sha256:"))
}

func (r *Registry) blob(w http.ResponseWriter, q *http.Request, _, digest string) {
	if !digestForm.MatchString(digest) {
		fail(w, http.StatusBadRequest, "DIGEST_INVALID", "want sha256: and 64 hexadecimal digits")
		return
	}
	if q.Method != http.MethodGet && q.Method != http.MethodHead {
		fail(w, http.StatusMethodNotAllowed, "UNSUPPORTED", q.Method)
		return
	}
	file, err := os.Open(r.blobPath(digest))
	if err != nil {
		fail(w, http.StatusNotFound, "BLOB_UNKNOWN", digest)
		return
	}
	defer file.Close()
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, q, "", time.Time{}, file)
}

// upload serves POST (begin), PATCH (a chunk), PUT (the last chunk, and the digest that the whole must have).
func (r *Registry) upload(w http.ResponseWriter, q *http.Request, name, id string) {
	switch q.Method {
	case http.MethodPost:
		id, ok := r.begin()
		if !ok {
			fail(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", fmt.Sprintf("more than %d uploads at a time", maxUploads))
			return
		}
		if q.URL.Query().Get("digest") != "" {
			r.finish(w, q, name, id)
			return
		}
		w.Header().Set("Location", "/v2/"+name+"/blobs/uploads/"+id)
		w.Header().Set("Range", "0-0")
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPatch, http.MethodPut:
		if !uploadForm.MatchString(id) || !r.known(id) {
			fail(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "begin with POST")
			return
		}
		if q.Method == http.MethodPut {
			r.finish(w, q, name, id)
			return
		}
		size, err := r.appendTo(id, q)
		if err != nil {
			r.forget(id)
			failUpload(w, err)
			return
		}
		w.Header().Set("Location", "/v2/"+name+"/blobs/uploads/"+id)
		w.Header().Set("Range", fmt.Sprintf("0-%d", max(size-1, 0)))
		w.WriteHeader(http.StatusAccepted)
	case http.MethodDelete:
		r.forget(id)
		w.WriteHeader(http.StatusNoContent)
	default:
		fail(w, http.StatusMethodNotAllowed, "UNSUPPORTED", q.Method)
	}
}

func (r *Registry) begin() (string, bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for id, at := range r.uploads {
		if time.Since(at) > time.Hour {
			delete(r.uploads, id)
			_ = os.Remove(filepath.Join(r.dir, "uploads", id))
		}
	}
	if len(r.uploads) >= maxUploads {
		return "", false
	}
	r.next++
	id := fmt.Sprintf("%016x", r.next)
	r.uploads[id] = time.Now()
	return id, true
}

func (r *Registry) known(id string) bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	_, ok := r.uploads[id]
	return ok
}

func (r *Registry) forget(id string) {
	if !uploadForm.MatchString(id) {
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	delete(r.uploads, id)
	_ = os.Remove(filepath.Join(r.dir, "uploads", id))
}

var errTooLarge = errors.New("larger than this registry takes")

func (r *Registry) appendTo(id string, q *http.Request) (int64, error) {
	file, err := os.OpenFile(filepath.Join(r.dir, "uploads", id), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(file, io.LimitReader(q.Body, maxBlob-info.Size()+1))
	if err != nil {
		return 0, err
	}
	if info.Size()+n > maxBlob {
		return 0, errTooLarge
	}
	return info.Size() + n, nil
}

func (r *Registry) finish(w http.ResponseWriter, q *http.Request, name, id string) {
	defer r.forget(id)
	digest := q.URL.Query().Get("digest")
	if !digestForm.MatchString(digest) {
		fail(w, http.StatusBadRequest, "DIGEST_INVALID", "want ?digest=sha256: and 64 hexadecimal digits")
		return
	}
	if _, err := r.appendTo(id, q); err != nil {
		failUpload(w, err)
		return
	}
	path := filepath.Join(r.dir, "uploads", id)
	got, err := fileDigest(path)
	if err != nil {
		failUpload(w, err)
		return
	}
	if got != digest {
		fail(w, http.StatusBadRequest, "DIGEST_INVALID", "the content is "+got)
		return
	}
	if err := os.Rename(path, r.blobPath(digest)); err != nil {
		failUpload(w, err)
		return
	}
	w.Header().Set("Location", "/v2/"+name+"/blobs/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
}

func fileDigest(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil)), nil
}

// stored is a manifest with its type, as it is kept under a tag and under its digest.
type stored struct {
	Type string `json:"type"`
	Body []byte `json:"body"`
}

func (r *Registry) manifestPath(name, reference string) string {
	return filepath.Join(r.dir, "manifests", strings.ReplaceAll(name, "/", "~"), strings.ReplaceAll(reference, ":", "~"))
}

func (r *Registry) manifest(w http.ResponseWriter, q *http.Request, name, reference string) {
	if !tagForm.MatchString(reference) && !digestForm.MatchString(reference) {
		fail(w, http.StatusBadRequest, "MANIFEST_INVALID", "want a tag or a digest")
		return
	}
	switch q.Method {
	case http.MethodGet, http.MethodHead:
		data, err := os.ReadFile(r.manifestPath(name, reference))
		var m stored
		if err != nil || json.Unmarshal(data, &m) != nil {
			fail(w, http.StatusNotFound, "MANIFEST_UNKNOWN", name+":"+reference)
			return
		}
		w.Header().Set("Content-Type", m.Type)
		w.Header().Set("Docker-Content-Digest", digestOf(m.Body))
		w.Header().Set("Content-Length", fmt.Sprint(len(m.Body)))
		if q.Method == http.MethodGet {
			_, _ = w.Write(m.Body)
		}
	case http.MethodPut:
		r.putManifest(w, q, name, reference)
	default:
		fail(w, http.StatusMethodNotAllowed, "UNSUPPORTED", q.Method)
	}
}

func (r *Registry) putManifest(w http.ResponseWriter, q *http.Request, name, reference string) {
	body, err := io.ReadAll(io.LimitReader(q.Body, maxManifest+1))
	if err != nil || len(body) > maxManifest {
		fail(w, http.StatusRequestEntityTooLarge, "SIZE_INVALID", "a manifest has at most 4 MiB")
		return
	}
	digest := digestOf(body)
	if digestForm.MatchString(reference) && reference != digest {
		fail(w, http.StatusBadRequest, "DIGEST_INVALID", "the content is "+digest)
		return
	}
	var m Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		fail(w, http.StatusBadRequest, "MANIFEST_INVALID", err.Error())
		return
	}
	for _, each := range append([]Descriptor{m.Config}, m.Layers...) {
		if each.Digest == "" {
			continue
		}
		if !digestForm.MatchString(each.Digest) {
			fail(w, http.StatusBadRequest, "MANIFEST_INVALID", "digest "+each.Digest)
			return
		}
		if _, err := os.Stat(r.blobPath(each.Digest)); err != nil {
			fail(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", each.Digest)
			return
		}
	}
	kind := q.Header.Get("Content-Type")
	if kind == "" {
		kind = m.MediaType
	}
	data, err := json.Marshal(stored{kind, body})
	if err == nil {
		err = os.MkdirAll(filepath.Dir(r.manifestPath(name, digest)), 0o755)
	}
	for _, key := range []string{digest, reference} {
		if err == nil {
			err = writeWhole(r.manifestPath(name, key), data)
		}
	}
	if err != nil {
		failUpload(w, err)
		return
	}
	w.Header().Set("Location", "/v2/"+name+"/manifests/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
}

func (r *Registry) tags(w http.ResponseWriter, q *http.Request, name, rest string) {
	if rest != "list" {
		fail(w, http.StatusNotFound, "UNSUPPORTED", "no such endpoint")
		return
	}
	entries, err := os.ReadDir(filepath.Dir(r.manifestPath(name, "x")))
	if err != nil {
		fail(w, http.StatusNotFound, "NAME_UNKNOWN", name)
		return
	}
	tags := []string{}
	for _, entry := range entries {
		if tagForm.MatchString(entry.Name()) && !strings.HasSuffix(entry.Name(), ".new") {
			tags = append(tags, entry.Name())
		}
	}
	answerJSON(w, map[string]any{"name": name, "tags": tags})
}

func (r *Registry) catalog(w http.ResponseWriter) {
	entries, _ := os.ReadDir(filepath.Join(r.dir, "manifests"))
	names := []string{}
	for _, entry := range entries {
		names = append(names, strings.ReplaceAll(entry.Name(), "~", "/"))
	}
	sort.Strings(names)
	answerJSON(w, map[string]any{"repositories": names})
}

func writeWhole(path string, data []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), "*.new")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if _, err := file.Write(data); err != nil {
		file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func answerJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

func failUpload(w http.ResponseWriter, err error) {
	if errors.Is(err, errTooLarge) {
		fail(w, http.StatusRequestEntityTooLarge, "SIZE_INVALID", err.Error())
		return
	}
	fail(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
}

func fail(w http.ResponseWriter, code int, kind, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": kind, "message": message}}})
}
