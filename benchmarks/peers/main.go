// The Go proxy of the benchmark: net/http/httputil.ReverseProxy with a hook before every manifest request that
// gets the image's Id from Docker and its digest from the registry, and pushes if they differ. That is the design
// of the article this project is based on. It never pushes here: the benchmark's images are up to date.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"time"
)

var manifest = regexp.MustCompile(`^/v2/(.+)/manifests/([^/]+)$`)

const accept = "application/vnd.docker.distribution.manifest.v2+json, " +
	"application/vnd.docker.distribution.manifest.list.v2+json, " +
	"application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"

type hook struct {
	name, backend string
	docker        *http.Client
	registry      *http.Client
}

func (h *hook) localID(image string) string {
	answer, err := h.docker.Get("http://docker/v1.40/images/" + h.name + "/" + image + "/json")
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	var found struct {
		ID string `json:"Id"`
	}
	json.NewDecoder(answer.Body).Decode(&found)
	return found.ID
}

func (h *hook) remoteID(repository, tag string) string {
	request, _ := http.NewRequest("GET", h.backend+"/v2/"+repository+"/manifests/"+tag, nil)
	request.Header.Set("Accept", accept)
	answer, err := h.registry.Do(request)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	var found struct {
		Config struct {
			Digest string `json:"digest"`
		} `json:"config"`
	}
	content, _ := io.ReadAll(answer.Body)
	json.Unmarshal(content, &found)
	return found.Config.Digest
}

func main() {
	listen := flag.String("listen", "127.0.0.1:5251", "")
	backend := flag.String("backend", "http://127.0.0.1:5250", "")
	socket := flag.String("socket", "/var/run/docker.sock", "")
	name := flag.String("name", "localhost:5252", "the registry's name in Docker")
	flag.Parse()
	behind, err := url.Parse(*backend)
	if err != nil {
		log.Fatal(err)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", *socket)
	}
	h := &hook{*name, *backend,
		&http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 64}, Timeout: 10 * time.Second},
		&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 10 * time.Second}}
	proxy := httputil.NewSingleHostReverseProxy(behind)
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	log.Fatal(http.ListenAndServe(*listen, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if found := manifest.FindStringSubmatch(r.URL.Path); found != nil && (r.Method == "HEAD" || r.Method == "GET") {
			if local := h.localID(found[1] + ":" + found[2]); local != "" && local != h.remoteID(found[1], found[2]) {
				log.Printf("%s:%s differs", found[1], found[2]) // here the original pushes
			}
		}
		proxy.ServeHTTP(w, r)
	})))
}
