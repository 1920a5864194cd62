# The same meaning as bench/subjects.py's policy: a verified token, the path of one rule, a right from data.
package envoy.authz

default result := {"allowed": false}

result := {"allowed": true, "headers": {"kubeflow-userid": user}} if {
	some right in data.bench.rights[user]
	right.namespace == input.parsed_query.namespace[0]
	right.verb == rule.verb
	right.group == rule.group
	right.resource == rule.resource
}

http := input.attributes.request.http

token := substring(http.headers.authorization, 7, -1) if startswith(http.headers.authorization, "Bearer ")

verified := io.jwt.decode_verify(token, {"cert": data.bench.jwks, "iss": data.bench.issuer, "aud": data.bench.audience})

user := verified[2].email if verified[0]

rule := data.bench.rules[concat("/", input.parsed_path)][http.method]
