// Exports that change while a client haggles.

import BlockBackend
import HoldfastServer
import NBDClient
import NBDServerCore
import TestBackends
import Testing

@Suite struct HandshakeAcrossChangesTests {
  /// GO tells what INFO told, though the export has changed.
  @Test func aHandshakeGoesOnAsItBegan() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    let client = RawClient(try server.socket(timeoutSeconds: 10))
    try client.greet()
    let told = try client.exportInfo(client.option(Option.info, infoOptionData("disk", [Info.description])))
    try server.server.change(
      "disk", to: Export(name: "disk", aliases: [""], description: "new", isReadOnly: false, image: server.image))
    #expect(try server.client().export.description == "new")
    #expect(try client.exportInfo(client.option(Option.go, infoOptionData("disk", [Info.description]))) == told)
  }

  /// A client in the middle of its handshake finds what the name means now, with the contexts that it was told of.
  @Test func aHandshakeGoesOnWhenItsExportIsReplaced() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    let client = RawClient(try server.socket(timeoutSeconds: 10))
    try client.greet()
    try client.negotiateStructured()
    try client.select(["base:allocation"], export: "disk")
    #expect(
      try client.exportInfo(client.option(Option.info, infoOptionData("disk", [Info.description]))).sizeBytes == 1 << 20
    )
    try server.server.replace(
      "disk",
      with: Export(name: "disk", aliases: [""], isReadOnly: false, image: image(MemoryBackend(sizeBytes: 2 << 20))))
    try client.go("disk")
    #expect(client.export.sizeBytes == 2 << 20)
    #expect(try client.call(Cmd.blockStatus, length: 2 << 20).isSuccess)
    // An id is never used again.
    #expect(server.server.exportSnapshot().map(\.id.rawValue) == [1])
  }

  private func image(_ backend: any BlockBackend) -> Image {
    Image(backend: backend, lanes: Lanes(workersAwakeMax: 16))
  }
}
