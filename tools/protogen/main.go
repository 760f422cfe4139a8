// Command protogen compiles the project's .proto files and runs the Go
// plugins over them. It is buf or protoc reduced to what the project needs,
// so that generating code takes nothing but the Go module proxy.
//
// Usage, from the repository root:
//
//	go run -C tools ./protogen ..          writes what is generated
//	go run -C tools ./protogen -check ..   writes nothing, fails when something is stale
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// module is the import path below which go_package options lie.
const module = "github.com/tegami-im/tegami"

// A set is one tree of .proto files, those that it imports from other sets, and
// the plugins that run over it.
type set struct {
	root    string
	imports []string
	plugins []string
}

func main() {
	check := flag.Bool("check", false, "compare with the files that are there, write nothing")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: protogen [-check] REPOSITORY")
		os.Exit(2)
	}
	if err := run(context.Background(), flag.Arg(0), *check); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, repository string, check bool) error {
	generated := map[string]string{}
	for _, s := range []set{
		{root: "api/proto", plugins: []string{"protoc-gen-go", "protoc-gen-connect-go"}},
		{root: "actors/record", plugins: []string{"protoc-gen-go"}},
		{root: "persistence/transfer", plugins: []string{"protoc-gen-go"}},
		{root: "behaviours", plugins: []string{"protoc-gen-go"}},
		{root: "actors/wire", imports: []string{"actors/record"}, plugins: []string{"protoc-gen-go"}},
	} {
		if err := generate(ctx, repository, s, generated); err != nil {
			return fmt.Errorf("%s: %w", s.root, err)
		}
	}
	if check {
		return compare(repository, generated)
	}
	for name, content := range generated {
		path := filepath.Join(repository, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// compare fails with the names of the files that differ from what would be
// written, or that nothing generates any more.
func compare(repository string, generated map[string]string) error {
	var stale []string
	for name, content := range generated {
		found, err := os.ReadFile(filepath.Join(repository, name))
		if err != nil || string(found) != content {
			stale = append(stale, name)
		}
	}
	err := filepath.WalkDir(repository, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != repository && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".pb.go") && !strings.HasSuffix(path, ".connect.go") {
			return nil
		}
		name, err := filepath.Rel(repository, path)
		if _, ok := generated[filepath.ToSlash(name)]; !ok {
			stale = append(stale, name+" (nothing generates it)")
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(stale) > 0 {
		slices.Sort(stale)
		return fmt.Errorf("stale, run make generate: %s", strings.Join(stale, ", "))
	}
	return nil
}

// generate adds what the plugins make of a set to generated, by path.
func generate(ctx context.Context, repository string, s set, generated map[string]string) error {
	root := filepath.Join(repository, s.root)
	var names []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(path, ".proto") {
			name, _ := filepath.Rel(root, path)
			names = append(names, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		return err
	}
	paths := []string{root}
	for _, other := range s.imports {
		paths = append(paths, filepath.Join(repository, other))
	}
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: paths}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, names...)
	if err != nil {
		return err
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: names,
		Parameter:      new("module=" + module),
		ProtoFile:      descriptors(files),
	}
	for _, plugin := range s.plugins {
		if err := runPlugin(ctx, repository, plugin, request, generated); err != nil {
			return fmt.Errorf("%s: %w", plugin, err)
		}
	}
	return nil
}

// descriptors lists the files and all that they import, imports first.
func descriptors(files linker.Files) []*descriptorpb.FileDescriptorProto {
	var list []*descriptorpb.FileDescriptorProto
	seen := map[string]bool{}
	var visit func(file linker.File)
	visit = func(file linker.File) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		imports := file.Imports()
		for i := range imports.Len() {
			visit(file.FindImportByPath(imports.Get(i).Path()))
		}
		list = append(list, protoutil.ProtoFromFileDescriptor(file))
	}
	for _, file := range files {
		visit(file)
	}
	return list
}

func runPlugin(ctx context.Context, repository, plugin string, request *pluginpb.CodeGeneratorRequest, generated map[string]string) error {
	input, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, "go", "tool", plugin)
	command.Dir = filepath.Join(repository, "tools")
	command.Stdin = bytes.NewReader(input)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(output, &response); err != nil {
		return err
	}
	if response.Error != nil {
		return fmt.Errorf("%s", response.GetError())
	}
	for _, file := range response.File {
		generated[file.GetName()] = file.GetContent()
	}
	return nil
}
