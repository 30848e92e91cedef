package main

import (
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
)

// sbom is a bill of materials in the form of CycloneDX 1.6: what this very
// binary was built from, as the Go toolchain recorded it. It has no date and no
// serial number, so that the same binary prints the same bytes.
type sbom struct {
	Format      string          `json:"bomFormat"`
	SpecVersion string          `json:"specVersion"`
	Version     int             `json:"version"`
	Metadata    sbomMetadata    `json:"metadata"`
	Components  []sbomComponent `json:"components"`
}

type sbomMetadata struct {
	Component sbomComponent `json:"component"`
}

type sbomComponent struct {
	Type       string         `json:"type"`
	Name       string         `json:"name"`
	Version    string         `json:"version,omitempty"`
	PURL       string         `json:"purl,omitempty"`
	Ref        string         `json:"bom-ref"`
	Properties []sbomProperty `json:"properties,omitempty"`
}

type sbomProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func billOfMaterials(info *debug.BuildInfo) sbom {
	b := sbom{Format: "CycloneDX", SpecVersion: "1.6", Version: 1, Components: []sbomComponent{}}
	b.Metadata.Component = component("application", &info.Main)
	for _, s := range info.Settings {
		if slices.Contains([]string{"GOOS", "GOARCH", "CGO_ENABLED", "-trimpath", "-tags", "GOEXPERIMENT", "vcs.revision", "vcs.modified"}, s.Key) {
			b.Metadata.Component.Properties = append(b.Metadata.Component.Properties, sbomProperty{"go:" + s.Key, s.Value})
		}
	}
	std := debug.Module{Path: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go")}
	b.Components = append(b.Components, component("library", &std))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		b.Components = append(b.Components, component("library", m))
	}
	return b
}

// component tells of a module. The sum is what go.sum has: a digest of the
// module's files, not of an archive.
func component(kind string, m *debug.Module) sbomComponent {
	c := sbomComponent{Type: kind, Name: m.Path, Version: m.Version}
	c.PURL = "pkg:golang/" + m.Path
	if m.Version != "" {
		c.PURL += "@" + url.PathEscape(m.Version)
	}
	c.Ref = c.PURL
	if m.Sum != "" {
		c.Properties = []sbomProperty{{"go:sum", m.Sum}}
	}
	return c
}
