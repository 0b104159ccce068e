"""A title in; the beginning of a self-contained page out: light and dark, narrow and wide, nothing fetched."""

from perron.pages.charts import esc

__all__ = ["head"]

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>{css}</style></head><body>"""
CSS = """
:root { --page:#f7f7f5; --card:#fff; --sunk:#f4f4f1; --text:#1d1f22; --soft:#5a5f66; --line:#e2e2dd; --edge:#878c93;
  --accent:#1c5d99; --bar:#8db4d9; --other:#c46a12; --bad:#ad2318; --bad-card:#fdf3f1; --bad-line:#eec4be;
  --mid:#7a5200; --mid-card:#fdf6e6; --mid-line:#ead9ac; --good:#1d6b3a; --good-card:#eff8f2; --good-line:#bfe0cb; }
@media (prefers-color-scheme: dark) { :root { --page:#121315; --card:#1a1c1f; --sunk:#141618; --text:#e4e5e7; --soft:#a2a7af;
  --line:#2c2f34; --edge:#6f757e; --accent:#86b7e8; --bar:#47789f; --other:#e09a4f; --bad:#ff9a8f; --bad-card:#2a1917;
  --bad-line:#5e322d; --mid:#e6bf6a; --mid-card:#262012; --mid-line:#564820; --good:#84d3a1; --good-card:#15241b; --good-line:#2c5a3d; } }
* { box-sizing:border-box; margin:0; overflow-wrap:anywhere; }
html { scroll-padding:1rem; -webkit-text-size-adjust:100%; }
body { background:var(--page); color:var(--text); font:15px/1.5 system-ui,sans-serif; font-variant-numeric:tabular-nums; }
h1,h2,h3 { line-height:1.25; font-weight:600; }
h1 { font-size:clamp(1.2rem,1rem + 2.2vw,1.75rem); letter-spacing:-.02em; } h1 .soft { font-weight:400; }
h2 { font-size:1.25rem; letter-spacing:-.01em; margin-bottom:.8rem; } h3 { font-size:1rem; }
a { color:var(--accent); text-underline-offset:.18em; text-decoration-thickness:1px; }
a:hover { text-decoration-thickness:2px; }
:focus-visible { outline:2px solid var(--accent); outline-offset:2px; border-radius:3px; }
.soft { color:var(--soft); } .small { font-size:.87rem; } .num { text-align:right; white-space:nowrap; }
.wrap { max-width:1180px; margin:0 auto; padding:0 1.5rem 2.5rem; }
.card { background:var(--card); border:1px solid var(--line); border-radius:8px; min-width:0; } .pad { padding:1rem 1.2rem; }
.row { display:flex; flex-wrap:wrap; justify-content:space-between; align-items:baseline; gap:.3rem 1.2rem; }
.scroll { overflow-x:auto; }
.skip { position:absolute; left:-999px; } .skip:focus { left:1rem; top:.4rem; }
header { padding-top:2.1rem !important; padding-bottom:2rem !important; }
nav { display:flex; flex-wrap:wrap; gap:.2rem 1rem; font-size:.93rem; }
.verdict { margin:1.2rem 0; padding:.75rem 1rem; border:1px solid; border-radius:6px; font-size:1.08rem; font-weight:600; }
.verdict .soft { font-weight:400; font-size:.93rem; }
.verdict.high { color:var(--bad); background:var(--bad-card); border-color:var(--bad-line); }
.verdict.medium { color:var(--mid); background:var(--mid-card); border-color:var(--mid-line); }
.verdict.good { color:var(--good); background:var(--good-card); border-color:var(--good-line); }
.facts { display:grid; grid-template-columns:repeat(auto-fit,minmax(12rem,1fr)); gap:1rem 2rem; }
.facts dt { color:var(--soft); font-size:.87rem; } .main { font-size:1.35rem; font-weight:600; line-height:1.3; }
table { width:100%; border-collapse:collapse; font-size:.91rem; }
caption { text-align:left; padding-bottom:.5rem; }
th { text-align:left; font-weight:400; } thead th { color:var(--soft); }
th,td { vertical-align:top; padding:.42rem .9rem .42rem 0; border-bottom:1px solid var(--line); }
tr:last-child > * { border-bottom:0; }
.findings th:first-child,.findings td:first-child { padding-left:1.1rem; }
.findings td:nth-child(2) { white-space:nowrap; } .findings td:nth-child(3) { min-width:8rem; } .findings td:last-child { min-width:16rem; }
.tag { display:inline-block; padding:0 .5rem; border:1px solid var(--edge); border-radius:99px; font-size:.8rem; line-height:1.45; white-space:nowrap; }
.tag.high { color:var(--bad); background:var(--bad-card); border-color:var(--bad-line); font-weight:600; }
.tag.medium { color:var(--mid); background:var(--mid-card); border-color:var(--mid-line); }
.tag.low { color:var(--soft); border-color:var(--line); } .tag.role { color:var(--accent); border-color:currentColor; font-weight:600; }
.two { display:grid; grid-template-columns:minmax(0,1fr) minmax(0,1fr); gap:1.1rem; align-items:start; }
.two.heat { grid-template-columns:minmax(0,1.7fr) minmax(0,1fr); margin-top:.9rem; }
.bars th,.bars td { border:0; padding:.2rem .8rem .2rem 0; vertical-align:middle; } .bars th { min-width:6.5rem; overflow-wrap:break-word; } .bars td { white-space:nowrap; }
.wide { width:45%; min-width:5rem; } .bars td:last-child { padding-right:0; }
.bar { display:block; height:9px; border-radius:3px; background:linear-gradient(var(--fill,var(--bar)),var(--fill,var(--bar))) no-repeat var(--sunk); min-width:4rem; }
.bar.neg { --fill:var(--other); }
.pics { display:grid; grid-template-columns:repeat(auto-fill,minmax(13.5rem,1fr)); gap:1.1rem; }
figure.card { padding:.8rem 1rem .7rem; } figcaption { display:flex; flex-direction:column; margin-bottom:.35rem; line-height:1.35; }
.cards { display:grid; grid-template-columns:repeat(auto-fill,minmax(min(100%,19.5rem),1fr)); gap:1.1rem; margin-bottom:1rem; }
.col { padding:.9rem 1.1rem 1rem; display:flex; flex-direction:column; } .col:target { border-color:var(--accent); box-shadow:0 0 0 1px var(--accent); }
.tags { display:flex; flex-wrap:wrap; gap:.25rem .35rem; align-items:flex-start; min-height:1.55rem; margin:.25rem 0 .6rem; }
.col dl { display:grid; grid-template-columns:1fr 1fr; gap:.1rem 1.2rem; margin-top:auto; padding-top:.75rem; font-size:.87rem; }
.col dl div { display:flex; justify-content:space-between; gap:.6rem; } .col dt { color:var(--soft); white-space:nowrap; } .col dd { text-align:right; }
.none { padding:1.7rem 0; text-align:center; }
svg.chart { display:block; width:100%; fill:var(--bar); stroke:none; border-bottom:1px solid var(--edge); }
svg.chart .line { fill:none; stroke:var(--accent); stroke-width:2; vector-effect:non-scaling-stroke; stroke-linejoin:round; }
.axis { display:flex; justify-content:space-between; gap:1rem; font-size:.8rem; color:var(--soft); margin-top:.2rem; }
.tops { list-style:none; padding:0; font-size:.87rem; } .tops .bar { background-color:transparent; } .tops li { display:grid; grid-template-columns:minmax(0,1fr) 38% 3.6rem; gap:.6rem; align-items:center; }
.tops li > span:first-child { white-space:nowrap; overflow:hidden; text-overflow:ellipsis; }
svg.map { display:block; margin:0 auto; max-width:100%; height:auto; min-width:20rem; font:11px system-ui,sans-serif; fill:var(--text); }
svg.map .p { fill:var(--accent); } svg.map .n { fill:var(--other); } svg.map .z { fill:var(--sunk); }
.three { display:grid; grid-template-columns:repeat(3,minmax(0,1fr)); gap:1.5rem; margin-top:1rem; } .over + .over { margin-top:1.1rem; } .over h3 { margin-bottom:.6rem; }
summary { cursor:pointer; padding:.7rem 1.1rem; } .listed { columns:3; padding:0 1.1rem 1rem 2rem; font-size:.87rem; }
details { margin-top:.6rem; }
.cards.drifts { grid-template-columns:repeat(auto-fill,minmax(min(100%,27rem),1fr)); } .drifts th { white-space:nowrap; }
section > h3 { margin:1.3rem 0 .6rem; } .findings th { overflow-wrap:normal; } .findings td:nth-child(3) { min-width:9.5rem; }
.sample { width:max-content; min-width:100%; } .sample th,.sample td { padding:.35rem .9rem; white-space:nowrap; max-width:22rem; overflow:hidden; text-overflow:ellipsis; }
.sample thead th { font-weight:600; color:var(--text); }
@media (max-width:860px) { .two,.two.heat { grid-template-columns:minmax(0,1fr); } .three { grid-template-columns:minmax(0,1fr); } .listed { columns:1; } }
@media (max-width:560px) { .findings,.findings tbody,.findings tr,.findings td { display:block; } .findings thead { position:absolute; left:-999px; }
  .findings td,.findings td:first-child { border:0; padding:0 1rem; } .findings tr { padding:.6rem 0; } .findings tr + tr { border-top:1px solid var(--line); }
  .findings td:nth-child(-n+3) { display:inline-block; min-width:0; padding-right:0; } .two .bars .wide { width:28%; min-width:3rem; } .bars .bar { min-width:2.5rem; } .bars td.soft { white-space:normal; font-size:.8rem; } .wrap { padding:0 1rem 2rem; } .facts { grid-template-columns:1fr 1fr; } }
@media print { .card { break-inside:avoid; } nav,.skip { display:none; } }
"""


def head(title: str) -> str:
    """The page up to its body, with the style that all of Perron's static pages share."""
    return HEAD.replace("{title}", esc(title)).replace("{css}", CSS)
