package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"ers.local/cluster/internal/image"
)

// Media types of what is pushed.
const (
	ManifestType = "application/vnd.oci.image.manifest.v1+json"
	ConfigType   = "application/vnd.oci.image.config.v1+json"
	LayerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Descriptor names a blob.
type Descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// Manifest is an OCI image manifest.
type Manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        Descriptor   `json:"config"`
	Layers        []Descriptor `json:"layers"`
}

// Pushed is the result for one image.
type Pushed struct {
	Reference string // REPOSITORY/NAME:TAG
	Digest    string // of the manifest
	Sent      int64  // bytes that the registry did not have
}

// Pusher pushes to one registry.
type Pusher struct {
	PlainHTTP bool
	Client    *http.Client
	host      string
	token     string
}

// Push sends every image of a docker-archive to repository/NAME:TAG.
func (p *Pusher) Push(ctx context.Context, archive, repository string) ([]Pushed, error) {
	host, prefix, _ := strings.Cut(strings.TrimSuffix(repository, "/"), "/")
	if !strings.ContainsAny(host, ".:") && host != "localhost" {
		return nil, fmt.Errorf("%q names no registry: want HOST[:PORT][/PATH]", repository)
	}
	p.host = host
	if p.Client == nil {
		p.Client = &http.Client{Timeout: 10 * time.Minute}
	}
	if isLoopback(host) {
		p.PlainHTTP = true
	}
	files, err := readArchive(archive)
	if err != nil {
		return nil, err
	}
	var manifests []image.Manifest
	if err := json.Unmarshal(files["manifest.json"], &manifests); err != nil || len(manifests) == 0 {
		return nil, fmt.Errorf("%s is no docker-archive: manifest.json: %v", archive, err)
	}
	var out []Pushed
	for _, m := range manifests {
		for _, tag := range m.RepoTags {
			at := strings.LastIndex(tag, ":")
			if at < 0 || strings.Contains(tag[at:], "/") {
				return nil, fmt.Errorf("%s: the image %q has no tag", archive, tag)
			}
			name := path.Join(prefix, path.Base(tag[:at]))
			pushed, err := p.pushOne(ctx, files, m, name, tag[at+1:])
			if err != nil {
				return nil, fmt.Errorf("push %s to %s/%s: %w", tag, host, name, err)
			}
			out = append(out, pushed)
		}
	}
	return out, nil
}

func (p *Pusher) pushOne(ctx context.Context, files map[string][]byte, m image.Manifest, name, tag string) (Pushed, error) {
	pushed := Pushed{Reference: p.host + "/" + name + ":" + tag}
	manifest := Manifest{SchemaVersion: 2, MediaType: ManifestType}
	var err error
	if manifest.Config, err = p.blob(ctx, name, ConfigType, files[m.Config], &pushed.Sent); err != nil {
		return pushed, err
	}
	for _, layer := range m.Layers {
		data, ok := files[layer]
		if !ok {
			return pushed, fmt.Errorf("the archive lacks the layer %s", layer)
		}
		packed, err := compress(data)
		if err != nil {
			return pushed, err
		}
		descriptor, err := p.blob(ctx, name, LayerType, packed, &pushed.Sent)
		if err != nil {
			return pushed, err
		}
		manifest.Layers = append(manifest.Layers, descriptor)
	}
	body, err := json.Marshal(manifest)
	if err != nil {
		return pushed, err
	}
	pushed.Digest = digestOf(body)
	_, err = p.do(ctx, http.MethodPut, p.url("/v2/"+name+"/manifests/"+tag), ManifestType, body, name, http.StatusCreated)
	return pushed, err
}

func (p *Pusher) blob(ctx context.Context, name, kind string, data []byte, sent *int64) (Descriptor, error) {
	d := Descriptor{MediaType: kind, Digest: digestOf(data), Size: int64(len(data))}
	if _, err := p.do(ctx, http.MethodHead, p.url("/v2/"+name+"/blobs/"+d.Digest), "", nil, name, http.StatusOK); err == nil {
		return d, nil
	}
	response, err := p.do(ctx, http.MethodPost, p.url("/v2/"+name+"/blobs/uploads/"), "", nil, name, http.StatusAccepted)
	if err != nil {
		return d, err
	}
	location, err := url.Parse(response.Header.Get("Location"))
	if err != nil {
		return d, err
	}
	base, err := url.Parse(p.url("/"))
	if err != nil {
		return d, err
	}
	target := base.ResolveReference(location)
	if target.Host != base.Host {
		return d, fmt.Errorf("the registry sends the upload to another host, %s", target.Host)
	}
	query := target.Query()
	query.Set("digest", d.Digest)
	target.RawQuery = query.Encode()
	if _, err := p.do(ctx, http.MethodPut, target.String(), "application/octet-stream", data, name, http.StatusCreated); err != nil {
		return d, err
	}
	*sent += d.Size
	return d, nil
}

func (p *Pusher) url(path string) string {
	if p.PlainHTTP {
		return "http://" + p.host + path
	}
	return "https://" + p.host + path
}

// do sends a request, and once more with credentials when the registry asks for them.
func (p *Pusher) do(ctx context.Context, method, address, kind string, body []byte, name string, want int) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		request.ContentLength = int64(len(body))
		if kind != "" {
			request.Header.Set("Content-Type", kind)
		}
		if p.token != "" {
			request.Header.Set("Authorization", p.token)
		}
		response, err := p.Client.Do(request)
		if err != nil {
			if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
				return nil, fmt.Errorf("%w (the registry has no TLS: --plain-http)", err)
			}
			return nil, err
		}
		text, _ := io.ReadAll(io.LimitReader(response.Body, 2000))
		response.Body.Close()
		if response.StatusCode == want {
			return response, nil
		}
		if response.StatusCode == http.StatusUnauthorized && attempt == 0 {
			if p.token, err = p.authenticate(ctx, response.Header.Get("WWW-Authenticate"), name); err != nil {
				return nil, err
			}
			continue
		}
		return response, fmt.Errorf("%s %s: %s %s", method, request.URL.Path, response.Status, strings.TrimSpace(string(text)))
	}
}

var challengePart = regexp.MustCompile(`(realm|service|scope)="([^"]*)"`)

// authenticate answers a Basic or Bearer challenge with what `docker login` has stored.
func (p *Pusher) authenticate(ctx context.Context, challenge, name string) (string, error) {
	basic := storedLogin(p.host)
	switch scheme, _, _ := strings.Cut(challenge, " "); strings.ToLower(scheme) {
	case "basic":
		if basic == "" {
			return "", fmt.Errorf("%s wants a login: put one into ~/.docker/config.json (auths)", p.host)
		}
		return "Basic " + basic, nil
	case "bearer":
	default:
		return "", fmt.Errorf("%s refuses (401) and names no way to log in", p.host)
	}
	parts := map[string]string{}
	for _, match := range challengePart.FindAllStringSubmatch(challenge, -1) {
		parts[match[1]] = match[2]
	}
	realm, err := url.Parse(parts["realm"])
	if err != nil || (realm.Scheme != "https" && !p.PlainHTTP) {
		return "", fmt.Errorf("%s names the token service %q, which is not https", p.host, parts["realm"])
	}
	query := realm.Query()
	query.Set("service", parts["service"])
	query.Set("scope", "repository:"+name+":pull,push")
	realm.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err != nil {
		return "", err
	}
	if basic != "" {
		request.Header.Set("Authorization", "Basic "+basic)
	}
	response, err := p.Client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: the token service answers %s", p.host, response.Status)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer); err != nil {
		return "", err
	}
	if answer.Token == "" {
		answer.Token = answer.AccessToken
	}
	return "Bearer " + answer.Token, nil
}

// storedLogin reads base64(user:password) from the file that docker login writes.
func storedLogin(host string) string {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".docker")
	}
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return ""
	}
	var config struct {
		Auths map[string]struct{ Auth, Username, Password string }
	}
	if json.Unmarshal(data, &config) != nil {
		return ""
	}
	entry := config.Auths[host]
	if entry.Auth == "" && entry.Username != "" {
		return base64.StdEncoding.EncodeToString([]byte(entry.Username + ":" + entry.Password))
	}
	return entry.Auth
}

func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func readArchive(path string) (map[string][]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	out := map[string][]byte{}
	for r := tar.NewReader(file); ; {
		header, err := r.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if header.Size > maxBlob {
			return nil, fmt.Errorf("%s: %s is larger than 4 GiB", path, header.Name)
		}
		if out[header.Name], err = io.ReadAll(r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
}

// compress gives the same bytes for the same content: no name and no time in the header.
func compress(data []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
