// Package kube is the little of a Kubernetes client that this tool needs: JSON over HTTP with a client certificate.
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Client talks to one API server.
type Client struct {
	base string
	http *http.Client
}

// Status is an answer that is not a success.
type Status struct {
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	verb    string
	path    string
}

func (s *Status) Error() string {
	return fmt.Sprintf("%s %s: %d %s: %s", s.verb, s.path, s.Code, s.Reason, s.Message)
}

// IsCode says whether err is an answer with one of the codes.
func IsCode(err error, codes ...int) bool {
	s, ok := err.(*Status)
	if !ok {
		return false
	}
	for _, code := range codes {
		if s.Code == code {
			return true
		}
	}
	return false
}

// maxAnswer bounds what is read into memory.
const maxAnswer = 64 << 20

// New reads the CA and the client certificate called name from dir.
func New(server, dir, name string) (*Client, error) {
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s/ca.crt holds no certificate", dir)
	}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: 8,
		ForceAttemptHTTP2:   true,
	}
	return &Client{base: server, http: &http.Client{Transport: transport}}, nil
}

// Do sends body (JSON of a value, or the bytes themselves) and decodes the answer into out, unless nil.
func (c *Client) Do(ctx context.Context, method, path, contentType string, body, out any) error {
	answer, err := c.Raw(ctx, method, path, contentType, body)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(answer, out)
}

// Raw is Do with the answer's bytes.
func (c *Client) Raw(ctx context.Context, method, path, contentType string, body any) ([]byte, error) {
	response, err := c.send(ctx, method, path, contentType, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(io.LimitReader(response.Body, maxAnswer))
}

func (c *Client) send(ctx context.Context, method, path, contentType string, body any) (*http.Response, error) {
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		reader = bytes.NewReader(b)
	case string:
		reader = bytes.NewReader([]byte(b))
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, reader)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json, */*")
	request.Header.Set("User-Agent", "ers-cluster")
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	status := &Status{verb: method, path: path}
	if json.Unmarshal(answer, status) != nil || status.Message == "" {
		status.Message = string(answer)
	}
	status.Code = response.StatusCode
	return nil, status
}

// Get reads path into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.Do(ctx, http.MethodGet, path, "", nil, out)
}

// Create posts a value or JSON text.
func (c *Client) Create(ctx context.Context, path string, body, out any) error {
	return c.Do(ctx, http.MethodPost, path, "application/json", body, out)
}

// Apply is server-side apply of one YAML or JSON document at its own path.
func (c *Client) Apply(ctx context.Context, path string, document []byte) error {
	return c.Do(ctx, http.MethodPatch, path+"?fieldManager=ers-cluster&force=true", "application/apply-patch+yaml", document, nil)
}

// Merge is a JSON merge patch.
func (c *Client) Merge(ctx context.Context, path string, body any) error {
	return c.Do(ctx, http.MethodPatch, path, "application/merge-patch+json", body, nil)
}

// Delete removes path; something that is gone already is fine.
func (c *Client) Delete(ctx context.Context, path string) error {
	err := c.Do(ctx, http.MethodDelete, path, "", nil, nil)
	if IsCode(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// Watch calls event for each event of the collection until the stream ends.
func (c *Client) Watch(ctx context.Context, path string, event func(kind string, object json.RawMessage)) error {
	response, err := c.send(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	for decoder := json.NewDecoder(response.Body); ; {
		var next struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := decoder.Decode(&next); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		event(next.Type, next.Object)
	}
}

// Follow tells kick whenever something in the collection changes, until the context ends. The API server may be away in between.
func (c *Client) Follow(ctx context.Context, path string, kick chan<- struct{}) {
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	for ctx.Err() == nil {
		err := c.Watch(ctx, path+separator+"watch=true&timeoutSeconds=600", func(string, json.RawMessage) {
			select {
			case kick <- struct{}{}:
			default:
			}
		})
		if err != nil && ctx.Err() == nil {
			log.Printf("watch %s: %v", path, err)
			time.Sleep(2 * time.Second)
		}
	}
}
