const parts=[...document.querySelectorAll('svg .node, svg .arrow')];
const near=(part,key)=>part.dataset.key===key||part.dataset.from===key||part.dataset.to===key;
for(const node of document.querySelectorAll('svg .node')){
  const key=node.dataset.key;
  node.addEventListener('mouseenter',()=>{
    const arrows=parts.filter(part=>part.dataset.from&&near(part,key));
    const keep=new Set(arrows.flatMap(part=>[part.dataset.from,part.dataset.to]));
    keep.add(key);
    for(const part of parts)part.classList.toggle('fade',part.dataset.key?!keep.has(part.dataset.key):!near(part,key));
  });
  node.addEventListener('mouseleave',()=>parts.forEach(part=>part.classList.remove('fade')));
}
document.getElementById('filter').addEventListener('input',event=>{
  const text=event.target.value.toLowerCase();
  for(const row of document.querySelectorAll('tbody tr'))row.hidden=!row.textContent.toLowerCase().includes(text);
});
