// The yardstick: servers that answer every check with an allow and decide nothing.
//
//	go-noop grpc   Authorization/Check on grpc-go, decoded as its generated server does
//	go-noop http   net/http
//
// Each prints its port and serves until its standard input ends.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
)

const user = "alice@example.com"

type server struct {
	auth.UnimplementedAuthorizationServer
}

func (server) Check(context.Context, *auth.CheckRequest) (*auth.CheckResponse, error) {
	header := &core.HeaderValueOption{Header: &core.HeaderValue{Key: "kubeflow-userid", Value: user}}
	allowed := &auth.OkHttpResponse{Headers: []*core.HeaderValueOption{header}}
	return &auth.CheckResponse{
		Status:       &status.Status{},
		HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: allowed},
	}, nil
}

func allow(writer http.ResponseWriter, request *http.Request) {
	writer.Header().Set("kubeflow-userid", user)
}

func serve(mode string, listener net.Listener) error {
	if mode == "http" {
		return http.Serve(listener, http.HandlerFunc(allow))
	}
	noop := grpc.NewServer()
	auth.RegisterAuthorizationServer(noop, server{})
	return noop.Serve(listener)
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(serve(os.Args[1], listener))
}
