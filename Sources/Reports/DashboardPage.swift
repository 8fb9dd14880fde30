// The page at `/` of the metrics endpoint: plain HTML, SVG and a little script, without anything from elsewhere. What clients and
// operators chose (names, peers, paths) goes into it as text, never as markup.

/// The page does not change: all that moves comes from status.json and map.svg.
package let dashboardPage = head + style + body + dashboardScript + "</script>\n</body>\n</html>\n"

private let head = """
  <!doctype html>
  <html lang="en">
  <head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Holdfast</title>
  <link rel="icon" href="data:,">

  """

private let style = """
  <style>
  :root {
    color-scheme: light dark;
    --page: #f4f6f7; --card: #ffffff; --ink: #182026; --dim: #5b6770; --line: #dfe4e8; --soft: #eef1f3;
    --read: #1f6fb5; --write: #c05621; --good: #147d4f; --bad: #b3261e; --warn: #8a5a00;
    --map-unknown: #c3cad0; --map-hole: #e9edf0; --map-zero: #d9c36a;
    --map-quarter: #b4dcc6; --map-half: #74c199; --map-most: #379f70; --map-full: #12724a;
  }
  @media (prefers-color-scheme: dark) {
    :root {
      --page: #12171b; --card: #1b2227; --ink: #e3e8eb; --dim: #98a4ad; --line: #2d373e; --soft: #232c32;
      --read: #5fa8e6; --write: #e8935a; --good: #4cc38a; --bad: #f2776d; --warn: #e0b050;
      --map-unknown: #46525a; --map-hole: #262f35; --map-zero: #8a7a37;
      --map-quarter: #1f4a37; --map-half: #22694a; --map-most: #2b9163; --map-full: #4cc38a;
    }
  }
  * { box-sizing: border-box; }
  body { margin: 0; background: var(--page); color: var(--ink);
    font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
    font-variant-numeric: tabular-nums; }
  main, header { max-width: 1180px; margin: 0 auto; padding: 0 16px; }
  header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 14px; padding-top: 18px; }
  h1 { font-size: 22px; margin: 0; letter-spacing: -.01em; }
  h2 { font-size: 13px; margin: 26px 0 8px; color: var(--dim); font-weight: 600; text-transform: uppercase;
    letter-spacing: .06em; }
  h3 { font-size: 15px; margin: 0; overflow-wrap: anywhere; }
  .dim { color: var(--dim); }
  .small { font-size: 12px; }
  .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px;
    min-width: 0; }
  .grid { display: grid; gap: 12px; }
  .tiles { grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); margin-top: 14px; }
  .charts { grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); margin-top: 12px; }
  .exports { grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); }
  .tile b { display: block; font-size: 21px; font-weight: 600; letter-spacing: -.02em; white-space: nowrap; }
  .chip { font-size: 12px; border-radius: 99px; padding: 1px 9px; background: var(--soft); color: var(--dim);
    white-space: nowrap; }
  .chip.good { color: var(--good); } .chip.bad { color: var(--bad); font-weight: 600; } .chip.warn { color: var(--warn); }
  .row { display: flex; flex-wrap: wrap; gap: 2px 12px; align-items: baseline; justify-content: space-between; }
  .chart svg { display: block; width: 100%; height: 84px; margin-top: 6px; }
  .chart .axis { stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke; }
  .chart path { fill: none; stroke-width: 1.6; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
  .chart .area { stroke: none; opacity: .14; }
  .a { color: var(--read); } .b { color: var(--write); }
  .map { height: 78px; margin: 10px 0 8px; border-radius: 6px; overflow: hidden; background: var(--map-hole); }
  .map svg { display: block; width: 100%; height: 100%; }
  .legend { display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 6px 0 0; }
  .legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 5px; }
  .facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(132px, 1fr)); gap: 6px 10px; }
  .exports .facts { grid-template-columns: repeat(4, 1fr); }
  .facts span { display: block; color: var(--dim); font-size: 12px; }
  .scroll { overflow-x: auto; padding: 4px 0; }
  table { border-collapse: collapse; width: 100%; font-size: 13px; }
  th { text-align: right; font-weight: 500; color: var(--dim); font-size: 12px; }
  td { text-align: right; white-space: nowrap; }
  th, td { padding: 4px 12px; border-bottom: 1px solid var(--line); }
  tr:last-child td { border-bottom: 0; }
  th.t, td.t { text-align: left; }
  td.name { max-width: 220px; overflow: hidden; text-overflow: ellipsis; }
  .bars { display: inline-block; width: 110px; height: 18px; vertical-align: middle; }
  .bars rect { fill: var(--read); }
  .alarm { border-color: var(--bad); }
  .alarm h2 { color: var(--bad); margin-top: 0; }
  footer { color: var(--dim); font-size: 12px; padding: 22px 0 30px; }
  a { color: inherit; }
  @media (max-width: 560px) {
    main, header { padding-left: 10px; padding-right: 10px; }
    .tiles { grid-template-columns: repeat(3, 1fr); gap: 8px; }
    .tile { padding: 8px 10px; } .tile b { font-size: 16px; }
    .wide { display: none; }
    .facts { grid-template-columns: repeat(2, 1fr); }
    .exports .facts { grid-template-columns: repeat(3, 1fr); }
    th, td { padding: 4px 7px; }
    td.name { max-width: 120px; }
  }
  </style>
  </head>

  """

private let body = """
  <body>
  <header>
    <h1>Holdfast</h1>
    <span class="dim" id="version"></span>
    <span class="dim" id="uptime"></span>
    <span class="chip" id="state">connecting</span>
  </header>
  <main>
    <div class="grid tiles" id="tiles"></div>
    <div class="grid charts" id="charts"></div>
    <div id="alarms"></div>
    <h2>Exports</h2>
    <div class="grid exports" id="exports"></div>
    <div class="legend small dim" id="legend"></div>
    <h2>Latency by command</h2>
    <div class="card scroll"><table id="commands"></table></div>
    <h2>Connections</h2>
    <div class="card scroll"><table id="connections"></table></div>
    <h2>Server</h2>
    <div class="card"><div class="facts" id="server"></div></div>
    <footer><a href="metrics">metrics</a> for Prometheus, <a href="status.json">status.json</a> for programs</footer>
  </main>
  <noscript><p>This page needs JavaScript; <a href="metrics">the metrics</a> do not.</p></noscript>
  <script>

  """
