// Package deploy checks what is in the folder deploy: the Helm chart renders, by
// Helm's own engine, to objects that Kubernetes' types take without an unknown
// field, and that find each other; the plain manifests are what it renders to; rules,
// dashboards and units pass the programs that read them.
//
// It is a module of its own, since only this needs what Helm and Kubernetes need.
package deploy
