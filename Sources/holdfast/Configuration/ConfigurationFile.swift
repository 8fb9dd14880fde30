// Reads a configuration from disk.

import Syscalls
import SystemPackage

/// The plan that the file at `path` describes.
/// - Throws: status 78 with every mistake, or why the file cannot be read.
func readConfigurationFile(
  _ path: String, resolve: @escaping HostResolver, directories: RuntimeDirectories
) throws(CommandFailure) -> ServePlan {
  let bytes: [UInt8]
  do throws(Errno) {
    bytes = try Files.contents(of: FilePath(path), bytesMax: ConfigurationNode.bytesMax + 1)
  } catch {
    throw CommandFailure(
      ExitStatus(opening: error), "cannot read the configuration \(path): \(reason(error))")
  }
  let directory = FilePath(path).removingLastComponent().string
  do throws(ConfigurationMistakes) {
    return try ConfigurationReader(directory: directory, resolve: resolve, directories: directories).read(bytes)
  } catch {
    throw CommandFailure(.configuration, lines: error.lines(file: path))
  }
}
