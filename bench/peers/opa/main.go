// OPA's engine in a bare ext_authz server: what OPA-Envoy costs at the least.
//
//	opa-engine POLICY DATA
//
// The policy is prepared once. OPA-Envoy's own work is left out: it turns the whole CheckRequest
// into JSON and back, logs decisions and counts. Like there, nothing is remembered between checks.
// It prints its port and serves until its standard input ends.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/url"
	"os"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
)

const permissionDenied = 7

type server struct {
	auth.UnimplementedAuthorizationServer
	query rego.PreparedEvalQuery
}

func (s server) Check(ctx context.Context, request *auth.CheckRequest) (*auth.CheckResponse, error) {
	results, err := s.query.Eval(ctx, rego.EvalInput(input(request.GetAttributes().GetRequest().GetHttp())))
	if err != nil || len(results) != 1 {
		return denied(), nil
	}
	result, _ := results[0].Expressions[0].Value.(map[string]any)
	if allowed, _ := result["allowed"].(bool); !allowed {
		return denied(), nil
	}
	headers, _ := result["headers"].(map[string]any)
	user, _ := headers["kubeflow-userid"].(string)
	option := &core.HeaderValueOption{Header: &core.HeaderValue{Key: "kubeflow-userid", Value: user}}
	return &auth.CheckResponse{
		Status: &status.Status{},
		HttpResponse: &auth.CheckResponse_OkResponse{
			OkResponse: &auth.OkHttpResponse{Headers: []*core.HeaderValueOption{option}},
		},
	}, nil
}

func denied() *auth.CheckResponse {
	return &auth.CheckResponse{Status: &status.Status{Code: permissionDenied}}
}

// input has the members of OPA-Envoy's input that the policy reads.
func input(http *auth.AttributeContext_HttpRequest) map[string]any {
	headers := make(map[string]any, len(http.GetHeaders()))
	for name, value := range http.GetHeaders() {
		headers[name] = value
	}
	path, query, _ := strings.Cut(http.GetPath(), "?")
	var segments []any
	for _, segment := range strings.Split(strings.TrimPrefix(path, "/"), "/") {
		segments = append(segments, segment)
	}
	parameters := map[string]any{}
	values, _ := url.ParseQuery(query)
	for name, all := range values {
		var list []any
		for _, value := range all {
			list = append(list, value)
		}
		parameters[name] = list
	}
	return map[string]any{
		"attributes": map[string]any{
			"request": map[string]any{
				"http": map[string]any{"method": http.GetMethod(), "path": http.GetPath(), "headers": headers},
			},
		},
		"parsed_path":  segments,
		"parsed_query": parameters,
	}
}

func prepare(policy, data string) (rego.PreparedEvalQuery, error) {
	module, err := os.ReadFile(policy)
	if err != nil {
		return rego.PreparedEvalQuery{}, err
	}
	content, err := os.ReadFile(data)
	if err != nil {
		return rego.PreparedEvalQuery{}, err
	}
	var documents map[string]any
	if err := json.Unmarshal(content, &documents); err != nil {
		return rego.PreparedEvalQuery{}, err
	}
	return rego.New(
		rego.Query("data.envoy.authz.result"),
		rego.Module("policy.rego", string(module)),
		rego.Store(inmem.NewFromObject(documents)),
	).PrepareForEval(context.Background())
}

func main() {
	query, err := prepare(os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	engine := grpc.NewServer()
	auth.RegisterAuthorizationServer(engine, server{query: query})
	log.Fatal(engine.Serve(listener))
}
