const parts=[...document.querySelectorAll('svg .node, svg .arrow')];
let kept=null;
// Shows what these workloads have to do with, and hides the rest; all of it without any.
function show(keys){
  const own=part=>keys.has(part.dataset.from)||keys.has(part.dataset.to);
  const arrows=keys?parts.filter(part=>part.dataset.from&&own(part)):[];
  const near=new Set(arrows.flatMap(part=>[part.dataset.from,part.dataset.to]).concat(...(keys||[])));
  for(const part of parts){
    part.classList.toggle('fade',!!keys&&(part.dataset.key?!near.has(part.dataset.key):!own(part)));
    part.classList.toggle('lit',!!keys&&!part.dataset.key&&own(part));
  }
}
function keep(element){
  kept?.classList.remove('kept');
  kept=kept===element?null:element;
  kept?.classList.add('kept');
}
function listen(element,keys){
  element.addEventListener('mouseenter',()=>kept||show(keys));
  element.addEventListener('mouseleave',()=>kept||show(null));
  element.addEventListener('click',()=>{keep(element);show(keys);});
}
for(const node of document.querySelectorAll('svg .node'))listen(node,new Set([node.dataset.key]));
for(const button of document.querySelectorAll('.groups button')){
  const members=parts.filter(part=>part.dataset.key&&part.dataset.group===button.dataset.group);
  listen(button,new Set(members.map(part=>part.dataset.key)));
}
document.getElementById('whole').addEventListener('change',event=>
  document.querySelector('.picture').classList.toggle('whole',event.target.checked));
document.getElementById('filter').addEventListener('input',event=>{
  const text=event.target.value.toLowerCase();
  for(const row of document.querySelectorAll('tbody tr'))row.hidden=!row.textContent.toLowerCase().includes(text);
});
