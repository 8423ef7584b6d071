// Sections that hold every word of the question, those with a word in their heading first; INDEX is search-index.js.
const box = document.getElementById("search"), list = document.getElementById("found");

function search() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  const hits = words.length ? INDEX.filter(([, page, heading, text]) => {
    const all = `${page} ${heading} ${text}`.toLowerCase();
    return words.every(word => all.includes(word));
  }) : [];
  const inHeading = ([, , heading]) => words.some(word => heading.toLowerCase().includes(word));
  hits.sort((a, b) => inHeading(b) - inHeading(a));
  list.replaceChildren(...hits.slice(0, 30).map(([address, page, heading, text]) => {
    const item = document.createElement("li"), link = document.createElement("a");
    link.href = `${document.body.dataset.root}/${address}`;
    link.textContent = heading === page ? page : `${heading} (${page})`;
    const start = Math.max(0, text.toLowerCase().indexOf(words[0]) - 60);
    item.append(link, document.createElement("br"), text.slice(start, start + 160));
    return item;
  }));
  if (words.length && !hits.length) list.replaceChildren("No section has all these words.");
}

box.addEventListener("input", search);
list.addEventListener("click", event => { if (event.target.closest("a")) list.replaceChildren(); });
