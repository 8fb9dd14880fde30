// What the endpoint makes of the bytes that come: the requests it takes, those it refuses, and that nothing else happens.

import NBDServerCore
import Oracle
import Reports
import Testing

@Suite struct HTTPRequests {
  private func parse(_ text: String) -> HTTPRequest.Progress { HTTPRequest.parse(Array(text.utf8)) }

  @Test func getIsTaken() {
    #expect(
      parse("GET /metrics HTTP/1.1\r\nHost: localhost:9810\r\nAccept: */*\r\n\r\n")
        == .complete(HTTPRequest(method: .get, path: "/metrics", host: "localhost:9810")))
  }

  @Test func headAndOldClientsAreTaken() {
    #expect(parse("HEAD / HTTP/1.0\n\n") == .complete(HTTPRequest(method: .head, path: "/")))
  }

  @Test func escapesAreDecoded() {
    #expect(
      parse("GET /map.svg?export=a%20b%26c+d&x&export=2 HTTP/1.1\r\nhost: h\r\n\r\n")
        == .complete(
          HTTPRequest(method: .get, path: "/map.svg", query: ["export": "a b&c d", "x": ""], host: "h")))
  }

  @Test(arguments: [
    ("POST / HTTP/1.1\r\nHost: h\r\n\r\n", HTTPStatus.methodNotAllowed),
    ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", .methodNotAllowed),
    ("GET / HTTP/1.1\r\n\r\n", .badRequest),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", .badRequest),
    ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", .badRequest),
    ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", .badRequest),
    ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", .badRequest),
    ("GET / HTTP/1.1\r\nHost: a\u{0}b\r\n\r\n", .badRequest),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", .badRequest),
    ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", .badRequest),
    ("GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", .badRequest),
    ("GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", .badRequest),
    ("GET /%2 HTTP/1.1\r\nHost: h\r\n\r\n", .badRequest),
    ("GET /%ff HTTP/1.1\r\nHost: h\r\n\r\n", .badRequest),
    ("GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n", .badRequest),
    ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", .badRequest),
    ("GET /\r\n\r\n", .badRequest),
    ("\r\nGET / HTTP/1.1\r\n\r\n", .badRequest),
    ("GET / HTTP/2.0\r\n\r\n", .versionNotSupported),
    ("GET / FTP/1.1\r\n\r\n", .badRequest),
  ])
  func whatBreaksARuleIsRefused(text: String, status: HTTPStatus) { #expect(parse(text) == .refused(status)) }

  @Test func aHeadIsBounded() {
    let long = String(repeating: "x", count: HTTPRequest.headBytesMax)
    #expect(parse("GET /\(long)") == .refused(.headTooLarge))
    #expect(parse("GET /\(long.prefix(3000)) HTTP/1.1\r\n\r\n") == .refused(.targetTooLong))
    #expect(parse("GET / HTTP/1.1\r\nA: \(long)") == .refused(.headTooLarge))
    #expect(parse("GET / HTTP/1.1\r\nHost: h\r\nA: \(long)\r\n\r\n") == .refused(.headTooLarge))
    let many = (0...100).map { "A\($0): b\r\n" }.joined()
    #expect(parse("GET / HTTP/1.1\r\nHost: h\r\n\(many)\r\n") == .refused(.headTooLarge))
  }

  /// Whatever comes, in whatever pieces: nothing traps, and the pieces make no difference.
  @Test func anyBytesInAnyPiecesAreOneThing() {
    let seed = printedSeed()
    var random = SeededGenerator(seed: seed)
    let good = Array("GET /map.svg?export=a%20b HTTP/1.1\r\nHost: [::1]:9810\r\nAccept: text/*;q=0.5\r\n\r\n".utf8)
    for _ in 0..<3000 {
      var bytes = Bool.random(using: &random) ? good : (0..<60).map { _ in UInt8.random(in: 0...255, using: &random) }
      for _ in 0..<Int.random(in: 0...4, using: &random) {
        let at = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0...3, using: &random) {
        case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.remove(at: at)
        case 2: bytes.insert(contentsOf: [0x0d, 0x0a], at: at)
        default: bytes.insert(contentsOf: bytes[..<at], at: at)
        }
        if bytes.isEmpty { bytes = [0] }
      }
      // The first answer that is one stands, however much has come by then.
      let whole = HTTPRequest.parse(bytes)
      var stepwise = HTTPRequest.Progress.needsMore
      for count in 0...bytes.count {
        stepwise = HTTPRequest.parse(Array(bytes[..<count]))
        if stepwise != .needsMore { break }
      }
      #expect(stepwise == whole, "\(bytes)")
    }
  }

  @Test(arguments: [
    ("localhost", true), ("LocalHost:9810", true), ("127.0.0.1:9810", true), ("[::1]:9810", true), ("10.1.2.3", true),
    ("evil.example", false), ("127.0.0.1.evil.example", false), ("", false), ("localhost.evil.example:9810", false),
    ("1.2.3.400", false), ("[::1", false),
  ])
  func namesOfOtherSitesAreNotOurs(host: String, isOurs: Bool) { #expect(isOurHost(host) == isOurs) }

  @Test func theNameOfTheMachineIsOurs() {
    for host in ["disks", "Disks:9810", "disks.example.org"] { #expect(isOurHost(host, machine: "disks.example.org")) }
    for host in ["disks.evil.example", "example.org", ""] { #expect(!isOurHost(host, machine: "disks.example.org")) }
    #expect(!isOurHost("", machine: ""))
  }

  @Test func pagesOfOtherSitesMayLinkAndNothingElse() {
    func mayBeAnswered(_ path: String, _ fields: String) -> Bool? {
      guard case .complete(let request) = parse("GET \(path) HTTP/1.1\r\nHost: h\r\n\(fields)\r\n") else { return nil }
      return request.mayBeAnswered
    }
    for site in ["cross-site", "same-site"] {
      #expect(mayBeAnswered("/", "Sec-Fetch-Site: \(site)\r\n") == false)
      #expect(mayBeAnswered("/", "Sec-Fetch-Site: \(site)\r\nSec-Fetch-Mode: navigate\r\n") == true)
      #expect(mayBeAnswered("/metrics", "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Site: \(site)\r\n") == false)
    }
    #expect(mayBeAnswered("/metrics", "Sec-Fetch-Site: same-origin\r\n") == true)
    #expect(mayBeAnswered("/metrics", "") == true)
  }

  @Test func headHasTheLengthButNotTheBody() {
    let get = String(decoding: HTTPResponse(.json, "{}").bytes(to: .get), as: UTF8.self)
    let head = String(decoding: HTTPResponse(.json, "{}").bytes(to: .head), as: UTF8.self)
    #expect(get == head + "{}")
    #expect(head.hasPrefix("HTTP/1.1 200 OK\r\n") && head.hasSuffix("\r\n\r\n"))
    #expect(head.contains("\r\nContent-Length: 2\r\n"))
  }
}
