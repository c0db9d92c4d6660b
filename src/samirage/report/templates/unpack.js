// Inflates the plotting library, which the page carries compressed, when it is first needed. The security policy knows
// the hash of its text, so that the browser runs it only if it is the one that the page was made with.
const plottingLibrary = (() => {
  const unpack = async () => {
    const packed = atob(document.getElementById("plotting-library").textContent);
    const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    return Plotly;
  };
  let loading;
  return () => (loading ??= unpack());
})();
