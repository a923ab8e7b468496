package web

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// description is what stands at the head of the committed OpenAPI document.
func description() *huma.OpenAPI {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	return &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{Title: "Yesline", Version: "1",
			Description: "What a program may ask of a Yesline house with an API key. A key acts as the account that made it, within its scopes. " +
				"What is absent and what is withheld get the same answer."},
		Components: &huma.Components{Schemas: schemas, SecuritySchemes: map[string]*huma.SecurityScheme{
			"key": {Type: "http", Scheme: "bearer", Description: "An API key: yk_ and 43 characters."}}},
		Security: []map[string][]string{{"key": {}}},
	}
}

// described is the operation in huma's words. Its rule is in the document too.
func (o *operation) described() huma.Operation {
	return huma.Operation{
		OperationID:   o.name,
		Method:        o.method(),
		Path:          o.path(),
		Summary:       o.summary,
		DefaultStatus: o.status,
		MaxBodyBytes:  bodyBytes + 1, // readBody was stricter
		Extensions:    map[string]any{"x-rule": map[string]string{"verb": string(o.rule.Verb), "kind": o.rule.Kind, "object": o.rule.Param}},
		Responses: map[string]*huma.Response{
			strconv.Itoa(o.status): {},
			"default":              problemResponse(),
		},
	}
}

func problemResponse() *huma.Response {
	return &huma.Response{Description: "A problem (RFC 9457)", Content: map[string]*huma.MediaType{
		problemType: {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}}}}
}

// openAPI is the whole document, as it is committed.
func (d *desk) openAPI() ([]byte, error) {
	api := d.huma.OpenAPI()
	schemas := api.Components.Schemas
	schemas.Schema(reflect.TypeFor[problem](), true, "Problem")
	for _, unused := range []string{"ErrorModel", "ErrorDetail"} {
		delete(schemas.Map(), unused)
	}
	data, err := json.Marshal(api)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, data, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// unmarshal is huma's second reading of a body, after readBody's.
func unmarshal(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}
