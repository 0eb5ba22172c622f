package netpolicy

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func read[T any](t *testing.T, text string) T {
	t.Helper()
	var out T
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

const pods = `[
 {"metadata":{"name":"server","namespace":"a","labels":{"app":"server"}},"spec":{"containers":[{"ports":[{"name":"http","containerPort":8080,"protocol":"TCP"}]}]},"status":{"phase":"Running","podIP":"10.160.0.2"}},
 {"metadata":{"name":"agent","namespace":"a","labels":{"app":"agent"}},"status":{"phase":"Running","podIP":"10.160.0.3"}},
 {"metadata":{"name":"other","namespace":"b","labels":{"app":"agent"}},"status":{"phase":"Running","podIP":"10.160.0.4"}},
 {"metadata":{"name":"done","namespace":"a","labels":{"app":"agent"}},"status":{"phase":"Succeeded","podIP":"10.160.0.5"}},
 {"metadata":{"name":"host","namespace":"a","labels":{"app":"agent"}},"spec":{"hostNetwork":true},"status":{"phase":"Running","podIP":"192.168.231.2"}}]`

const namespaces = `[{"metadata":{"name":"a","labels":{"team":"x"}}},{"metadata":{"name":"b","labels":{"team":"y"}}}]`

func rulesFor(t *testing.T, spec string) []string {
	t.Helper()
	policies := read[[]Policy](t, `[{"metadata":{"name":"p","namespace":"a"},"spec":`+spec+`}]`)
	var out []string
	for _, line := range strings.Split(Rules("192.168.231.1", read[[]Pod](t, pods), read[[]Namespace](t, namespaces), policies), "\n") {
		if strings.HasPrefix(line, "-A") && !strings.Contains(line, "conntrack") && !strings.Contains(line, "192.168.231.1 ") {
			out = append(out, strings.TrimPrefix(line, "-A ERS-POLICY-"))
		}
	}
	return out
}

func TestAPolicyLetsItsPeersInAndNobodyElse(t *testing.T) {
	for name, each := range map[string]struct {
		spec string
		want []string
	}{
		"peers of the own namespace on a named port": {
			`{"podSelector":{"matchLabels":{"app":"server"}},"policyTypes":["Ingress"],"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"agent"}}}],"ports":[{"port":"http"}]}]}`,
			[]string{"INGRESS -d 10.160.0.2 -s 10.160.0.3 -p tcp --dport 8080 -j RETURN", "INGRESS -s 10.160.0.2 -d 10.160.0.2 -j RETURN", "INGRESS -d 10.160.0.2 -j DROP"}},
		"another namespace by its labels": {
			`{"podSelector":{"matchLabels":{"app":"server"}},"policyTypes":["Ingress"],"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"team":"y"}},"podSelector":{}}],"ports":[{"port":9000,"endPort":9002,"protocol":"UDP"}]}]}`,
			[]string{"INGRESS -d 10.160.0.2 -s 10.160.0.4 -p udp --dport 9000:9002 -j RETURN", "INGRESS -s 10.160.0.2 -d 10.160.0.2 -j RETURN", "INGRESS -d 10.160.0.2 -j DROP"}},
		"a rule without peers lets everybody in": {
			`{"podSelector":{"matchLabels":{"app":"server"}},"policyTypes":["Ingress"],"ingress":[{}]}`,
			[]string{"INGRESS -d 10.160.0.2 -j RETURN", "INGRESS -s 10.160.0.2 -d 10.160.0.2 -j RETURN", "INGRESS -d 10.160.0.2 -j DROP"}},
		"no rule lets nobody in": {
			`{"podSelector":{"matchExpressions":[{"key":"app","operator":"In","values":["server"]}]},"policyTypes":["Ingress"]}`,
			[]string{"INGRESS -s 10.160.0.2 -d 10.160.0.2 -j RETURN", "INGRESS -d 10.160.0.2 -j DROP"}},
		"egress to a range with a hole": {
			`{"podSelector":{"matchLabels":{"app":"server"}},"policyTypes":["Egress"],"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/30","except":["10.0.0.1/32"]}}]}]}`,
			[]string{"EGRESS -s 10.160.0.2 -d 10.0.0.0/32 -j RETURN", "EGRESS -s 10.160.0.2 -d 10.0.0.2/31 -j RETURN", "EGRESS -s 10.160.0.2 -d 10.160.0.2 -j RETURN", "EGRESS -s 10.160.0.2 -j DROP"}},
		"a selector that matches no pod changes nothing": {
			`{"podSelector":{"matchLabels":{"app":"none"}},"policyTypes":["Ingress","Egress"]}`, nil},
	} {
		if got := rulesFor(t, each.spec); !reflect.DeepEqual(got, each.want) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, each.want)
		}
	}
}

func TestTheHostIsLetInBeforeAnythingIsDropped(t *testing.T) {
	rules := Rules("192.168.231.1", nil, nil, nil)
	want := "*mangle\n:ERS-POLICY-INGRESS - [0:0]\n:ERS-POLICY-EGRESS - [0:0]\n" +
		"-A ERS-POLICY-INGRESS -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN\n-A ERS-POLICY-EGRESS -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN\n" +
		"-A ERS-POLICY-INGRESS -s 192.168.231.1 -j RETURN\nCOMMIT\n"
	if rules != want {
		t.Errorf("%s", rules)
	}
}

func TestSelectorsFollowTheApi(t *testing.T) {
	labels := map[string]string{"a": "1"}
	for text, want := range map[string]bool{
		`{}`: true, `{"matchLabels":{"a":"2"}}`: false, `{"matchLabels":{"b":""}}`: false,
		`{"matchExpressions":[{"key":"a","operator":"NotIn","values":["1"]}]}`: false,
		`{"matchExpressions":[{"key":"b","operator":"NotIn","values":["1"]}]}`: true,
		`{"matchExpressions":[{"key":"a","operator":"Exists"}]}`:               true,
		`{"matchExpressions":[{"key":"a","operator":"DoesNotExist"}]}`:         false,
		`{"matchExpressions":[{"key":"a","operator":"Unheard"}]}`:              false,
	} {
		s := read[Selector](t, text)
		if s.Matches(labels) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
	if (*Selector)(nil).Matches(labels) {
		t.Error("no selector selects nothing")
	}
}
