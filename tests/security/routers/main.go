// The differential test's routes in Go's net/http; prints its port, then answers with what it dispatched to.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
)

func main() {
	mux := http.NewServeMux()
	for route, pattern := range map[string]string{
		"runs":      "GET /api/namespaces/{ns}/runs",
		"run":       "GET /api/namespaces/{ns}/runs/{name}",
		"terminate": "POST /api/namespaces/{ns}/runs/{name}/terminate",
		"listed":    "GET /list",
		"notebook":  "/notebook/{ns}/{name}/{rest...}",
		"admin":     "/admin",
		"files":     "GET /files/{rest...}",
	} {
		mux.HandleFunc(pattern, func(response http.ResponseWriter, request *http.Request) {
			namespace := request.PathValue("ns")
			if route == "listed" {
				namespace = request.URL.Query().Get("namespace")
			}
			json.NewEncoder(response).Encode([]string{route, namespace, request.PathValue("name")})
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	panic(http.Serve(listener, mux))
}
