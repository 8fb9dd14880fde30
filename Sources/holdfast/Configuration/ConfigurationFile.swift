// Reads a configuration from disk: the main file, and what stands in the directory beside it.

import Syscalls
import SystemPackage

/// The plan that the file at `path` and its drop-ins describe.
/// - Throws: status 78 with every mistake, or why a file cannot be read.
func readConfigurationFile(
  _ path: String, resolve: @escaping HostResolver, directories: RuntimeDirectories
) throws(CommandFailure) -> ServePlan {
  let bytes = try configurationBytes(path)
  let directory = FilePath(path).removingLastComponent().string
  let dropIns = try readDropIns(of: path)
  do throws(ConfigurationMistakes) {
    return try ConfigurationReader(directory: directory, resolve: resolve, directories: directories, path: path)
      .read(bytes, dropIns: dropIns)
  } catch {
    throw CommandFailure(.configuration, lines: error.lines(file: path))
  }
}

/// Where the drop-ins of a configuration are: `conf.d` beside holdfast.toml, and `NAME.conf.d` beside any other NAME.toml, so that two
/// servers with configurations in one directory do not serve the same images.
func dropInDirectory(of path: String) -> String {
  let file = FilePath(path)
  let stem = file.stem ?? ""
  let name = stem == "holdfast" ? "conf.d" : "\(stem).conf.d"
  return file.removingLastComponent().appending(name).string
}

/// Far above any real number of them.
private let dropInsMax = 1024

private func readDropIns(of path: String) throws(CommandFailure) -> [DropIn] {
  let directory = dropInDirectory(of: path)
  let names: [String]
  do throws(Errno) {
    names = try Files.names(in: FilePath(directory)).filter { $0.hasSuffix(".toml") && !$0.hasPrefix(".") }.sorted()
  } catch .noSuchFileOrDirectory {
    return []
  } catch {
    throw CommandFailure(ExitStatus(opening: error), "cannot read the directory \(directory): \(reason(error))")
  }
  guard names.count <= dropInsMax else {
    throw CommandFailure(.configuration, "there are \(names.count) files in \(directory), more than \(dropInsMax)")
  }
  var dropIns: [DropIn] = []
  for name in names {
    let path = "\(directory)/\(name)"
    dropIns.append(DropIn(path: path, directory: directory, bytes: try configurationBytes(path)))
  }
  return dropIns
}

private func configurationBytes(_ path: String) throws(CommandFailure) -> [UInt8] {
  do throws(Errno) {
    return try Files.contents(of: FilePath(path), bytesMax: ConfigurationNode.bytesMax + 1)
  } catch {
    throw CommandFailure(ExitStatus(opening: error), "cannot read the configuration \(path): \(reason(error))")
  }
}
